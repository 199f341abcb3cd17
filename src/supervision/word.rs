//! What a role tells who started it: systemd, or `sallyport up`, over the socket that `NOTIFY_SOCKET` names.

use sd_notify::NotifyState;

/// For `up` alone; systemd passes over what it does not know.
const RELEASED: &str = "X_SALLYPORT_RELEASED=1";
const WANTS_SUCCESSOR: &str = "X_SALLYPORT_WANTS_SUCCESSOR=1";

/// One thing that is told (sd_notify(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It serves.
    Ready,
    /// It has given its data to the next of its kind, and only ends what it has begun.
    Released,
    /// It was asked to let a successor take over, and who started it has to start that one too.
    WantsSuccessor,
    /// The process with this id has taken over.
    SucceededBy(u32),
}

impl Word {
    /// Tells it. Where nobody wants to hear, nothing happens.
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

/// What a message says; what is not for us is left out.
pub fn words(message: &[u8]) -> impl Iterator<Item = Word> + '_ {
    message.split(|byte| *byte == b'\n').filter_map(|line| Word::parse(std::str::from_utf8(line).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_words_and_what_others_say() {
        let message =
            b"STATUS=fine\nMAINPID=7\nMAINPID=x\nREADY=1\nX_SALLYPORT_RELEASED=1\n\xff\nX_SALLYPORT_WANTS_SUCCESSOR=1";
        let expected = [Word::SucceededBy(7), Word::Ready, Word::Released, Word::WantsSuccessor];
        assert_eq!(words(message).collect::<Vec<_>>(), expected);
    }
}
