//! Listening sockets pass from a running gateway to its successor over a Unix socket, so that none is closed in between.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The most that the kernel takes in one message is 253.
const MAX_SOCKETS: usize = 128;
/// Descriptors need a byte to travel with.
const ALONG: &[u8] = b"s";

/// Passes sockets on; both sides have them afterwards.
pub fn pass(stream: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("there are more sockets than can be passed on"));
    }
    sendmsg(stream, &[IoSlice::new(ALONG)], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Takes what [`pass`] has sent.
pub fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut along = [0; ALONG.len()];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut along)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if along != *ALONG || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what came are not the sockets of a gateway"));
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
        assert_eq!(receive(&to).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
