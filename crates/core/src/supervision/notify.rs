//! Messages from a role to the process that started it (systemd or `sallyport up`), over the socket that `NOTIFY_SOCKET` names.

use sd_notify::NotifyState;

/// For `up` only; systemd ignores unknown messages.
const RELEASED: &str = "X_SALLYPORT_RELEASED=1";
const WANTS_SUCCESSOR: &str = "X_SALLYPORT_WANTS_SUCCESSOR=1";

/// A message (sd_notify(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The role is serving.
    Ready,
    /// The role has released its data to its successor and only finishes its current work.
    Released,
    /// The role was asked to hand over to a successor, which the process that started the role must start too.
    WantsSuccessor,
    /// The process with this ID has taken over.
    SucceededBy(u32),
}

impl Notification {
    /// Sends the message. Does nothing if no supervisor listens.
    pub fn tell(self) {
        let state = match self {
            Self::Ready => NotifyState::Ready,
            Self::Released => NotifyState::Custom(RELEASED),
            Self::WantsSuccessor => NotifyState::Custom(WANTS_SUCCESSOR),
            Self::SucceededBy(pid) => NotifyState::MainPid(pid),
        };
        let _ = sd_notify::notify(&[state]);
    }

    fn parse(line: &str) -> Option<Self> {
        match line {
            "READY=1" => Some(Self::Ready),
            RELEASED => Some(Self::Released),
            WANTS_SUCCESSOR => Some(Self::WantsSuccessor),
            _ => line.strip_prefix("MAINPID=")?.parse().ok().map(Self::SucceededBy),
        }
    }
}

/// Parses the messages in a datagram; ignores unknown ones.
pub fn words(message: &[u8]) -> impl Iterator<Item = Notification> + '_ {
    message.split(|byte| *byte == b'\n').filter_map(|line| Notification::parse(std::str::from_utf8(line).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_parsed_and_unknown_ones_ignored() {
        let message =
            b"STATUS=fine\nMAINPID=7\nMAINPID=x\nREADY=1\nX_SALLYPORT_RELEASED=1\n\xff\nX_SALLYPORT_WANTS_SUCCESSOR=1";
        let expected =
            [Notification::SucceededBy(7), Notification::Ready, Notification::Released, Notification::WantsSuccessor];
        assert_eq!(words(message).collect::<Vec<_>>(), expected);
    }
}
