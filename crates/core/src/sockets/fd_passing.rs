//! Passes listening sockets from a running gateway to its successor over a Unix socket, so that none is closed in between.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use thiserror::Error;

/// The kernel accepts at most 253 in one message.
const MAX_SOCKETS: usize = 128;
/// Descriptors must accompany at least one byte of data.
const ALONG: &[u8] = b"s";

/// The reasons why sockets cannot be passed on.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// One message cannot carry this many.
    #[error("{0} sockets are more than can be passed on (at most {MAX_SOCKETS})")]
    TooMany(usize),
    /// The other side has closed the connection.
    #[error("the other process closed the connection without an answer")]
    Gone,
    /// The other side has sent something else.
    #[error("the other process sent something other than a gateway's sockets")]
    NotSockets,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for HandoverError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Passes sockets on; both sides have them afterwards.
pub fn pass(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if sockets.len() > MAX_SOCKETS || !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(HandoverError::TooMany(sockets.len()));
    }
    sendmsg(stream, &[IoSlice::new(ALONG)], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives the sockets that [`pass`] has sent.
pub fn receive(stream: &UnixStream) -> Result<Vec<OwnedFd>, HandoverError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut along = [0; ALONG.len()];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut along)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(HandoverError::Gone);
    }
    if along != *ALONG || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(HandoverError::NotSockets);
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn a_socket_that_was_passed_on_listens_where_it_did() {
        let (from, to) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        pass(&from, &[listener.as_fd(), listener.as_fd()]).unwrap();
        drop(listener);
        let received = receive(&to).unwrap();
        assert_eq!(received.len(), 2);
        let passed = TcpListener::from(received.into_iter().next().unwrap());
        assert_eq!(passed.local_addr().unwrap(), address);
        TcpStream::connect(address).unwrap();
        passed.accept().unwrap();
        drop(from);
        assert!(matches!(receive(&to), Err(HandoverError::Gone)));
    }

    #[test]
    fn anything_but_a_handover_is_rejected() {
        let (from, to) = UnixStream::pair().unwrap();
        (&from).write_all(b"x").unwrap();
        assert!(matches!(receive(&to), Err(HandoverError::NotSockets)));
        let many = vec![from.as_fd(); MAX_SOCKETS + 1];
        assert!(matches!(pass(&from, &many), Err(HandoverError::TooMany(129))));
    }
}
