//! How many bytes of answers are in memory at a time: in all, of one user, by one link, and of one answer. What a client does not read
//! stays within that, however many answers it asks for.
//!
//! Files are not counted: they never come into the process.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    caller::Caller,
    refusal::Refusal,
    shares::{Busy, Share, Shares, Sizes, Taken},
};

/// What is counted in, in bytes.
const UNIT: usize = 1 << 10;

/// In units.
const SIZES: Sizes = Sizes { all: 32 << 10, user: 4 << 10, link: 1 << 10 };

/// How long an answer that has not begun waits for room.
const PATIENCE: Duration = Duration::from_secs(10);

/// The budget; a handle to share.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Shares>);

/// What one answer may take of it.
#[derive(Clone)]
pub(crate) struct Account(Share);

/// Room for some bytes, until they are on their way.
pub(crate) struct Room {
    _taken: Taken,
}

struct Held {
    bytes: Box<[u8]>,
    _room: Room,
}

impl Budget {
    /// No answer waits for room any longer once `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self(Arc::new(Shares::new(SIZES, stop)))
    }

    /// For an answer to `caller` that has no more than `most` bytes in memory.
    pub(crate) fn account(&self, caller: &Caller, most: usize) -> Account {
        Account(self.0.of(caller).narrowed(units(most)))
    }
}

impl Account {
    /// Waits for room, as long as the client leaves what it has been sent unread.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Busy> {
        self.0.take(units(bytes)).await.map(|taken| Room { _taken: taken })
    }

    /// The same for an answer that has not begun, and that is refused where others of the same user are read too slowly.
    pub(crate) async fn first_room(&self, bytes: usize) -> Result<Room, Refusal> {
        let room = self.0.take_within(units(bytes), PATIENCE).await.map(|taken| Room { _taken: taken });
        room.map_err(|Busy| Refusal::unavailable("busy", "Other answers to this user are still unread"))
    }
}

impl Room {
    /// Bytes that take this room until they are dropped: hyper does that once they were written to the connection.
    pub(crate) fn hold(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { bytes: bytes.into(), _room: self })
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 64 << 10;

    #[tokio::test(start_paused = true)]
    async fn what_is_unread_takes_room_and_what_is_sent_gives_it_back() {
        let budget = Budget::new(CancellationToken::new());
        let (ana, bob) = (Caller::test("ana", None), Caller::test("bob", None));
        let mut unread = Vec::new();
        while let Ok(room) = budget.account(&ana, PIECE).first_room(PIECE).await {
            unread.push(room.hold(vec![0; PIECE]));
            assert!(unread.len() < 1_000);
        }
        assert_eq!(unread.len() * PIECE, 4 << 20);
        assert!(budget.account(&bob, PIECE).first_room(PIECE).await.is_ok(), "another user's room is their own");
        unread.pop();
        assert!(budget.account(&ana, PIECE).first_room(PIECE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_has_so_much_of_it() {
        let account = Budget::new(CancellationToken::new()).account(&Caller::test("ana", None), 2 * PIECE);
        let (first, _second) = (account.room(PIECE).await.unwrap(), account.room(PIECE).await.unwrap());
        assert!(tokio::time::timeout(Duration::from_hours(1), account.room(PIECE)).await.is_err());
        drop(first);
        assert!(account.room(PIECE).await.is_ok());
    }
}
