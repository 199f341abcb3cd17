//! The socket on which roles report their state, as to systemd, together with the process that reports.

use std::{
    fs,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred};
use sallyport_core::supervision::{Notification, words};
use tokio::{io::Interest, net::UnixDatagram};

const MAX_MESSAGE: usize = 512;

/// The socket for reports.
pub(super) struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
    /// The remaining words of the last message, in reverse order.
    rest: Vec<(u32, Notification)>,
}

impl Notices {
    pub(super) fn listen(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("ready.sock");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        set_socket_passcred(&socket, true)?;
        Ok(Self { socket, path, rest: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next notification; returns it with the ID of the process that sent it.
    pub(super) async fn next(&mut self) -> Result<(u32, Notification)> {
        loop {
            if let Some(next) = self.rest.pop() {
                return Ok(next);
            }
            self.rest = self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await?;
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Receives the notifications of one message. The kernel names the sender, so no process can speak for another.
fn receive(socket: impl AsFd) -> io::Result<Vec<(u32, Notification)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut message = [0; MAX_MESSAGE];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::DONTWAIT)?;
    let speaker = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(who) => u32::try_from(who.pid.as_raw_nonzero().get()).ok(),
        _ => None,
    });
    let said = message.get(..received.bytes).unwrap_or_default();
    let mut notifications: Vec<_> =
        speaker.into_iter().flat_map(|pid| words(said).map(move |notification| (pid, notification))).collect();
    notifications.reverse();
    Ok(notifications)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_word_comes_with_the_process_that_sent_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut notices = Notices::listen(dir.path()).unwrap();
        let speaker = std::os::unix::net::UnixDatagram::unbound().unwrap();
        speaker.send_to(b"STATUS=x\n", notices.path()).unwrap();
        speaker.send_to(b"MAINPID=7\nREADY=1", notices.path()).unwrap();
        let ours = std::process::id();
        assert_eq!(notices.next().await.unwrap(), (ours, Notification::SucceededBy(7)));
        assert_eq!(notices.next().await.unwrap(), (ours, Notification::Ready));
    }
}
