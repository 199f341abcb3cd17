//! Limits how many bytes of unread responses are held in memory: in total, per user, per link and per response. The limits hold however
//! many responses a client requests and leaves unread.
//!
//! Files are not counted, because their content never enters the process.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{
    shares::{Busy, Share, ShareGuard, Shares, Sizes},
    tasks::caller::Caller,
};

/// The unit of counting, in bytes.
const UNIT: usize = 1 << 10;

/// In units.
const SIZES: Sizes = Sizes { all: 32 << 10, user: 4 << 10, link: 1 << 10 };

/// How long a response that has not begun waits for memory.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The memory budget for responses. Clones share it.
#[derive(Clone)]
pub(crate) struct ResponseBudget(Arc<Shares>);

/// The part of the budget that one response may use.
#[derive(Clone)]
pub(crate) struct Account(Share);

/// Memory reserved for some bytes until they are written to the connection.
pub(crate) struct Reservation {
    _taken: ShareGuard,
}

/// The error if a user's other responses are read too slowly.
#[derive(Debug, Error)]
#[error("other responses to this user are still unread")]
pub(crate) struct TooMuchUnread;

struct ReservedBytes {
    bytes: Box<[u8]>,
    _reservation: Reservation,
}

impl ResponseBudget {
    /// Creates a budget. Responses stop waiting for memory once `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self(Arc::new(Shares::new(SIZES, stop)))
    }

    /// Returns an account for a response to `caller` that holds at most `most` bytes in memory.
    pub(crate) fn account(&self, caller: &Caller, most: usize) -> Account {
        Account(self.0.of(caller).narrowed(units(most)))
    }
}

impl Account {
    /// Reserves memory, waiting for as long as the client leaves earlier bytes unread.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Reservation, Busy> {
        self.0.take(units(bytes)).await.map(|taken| Reservation { _taken: taken })
    }

    /// Like [`reserve`](Self::reserve), for a response that has not begun. Refuses it if the user's other responses are read too slowly.
    pub(crate) async fn reserve_first(&self, bytes: usize) -> Result<Reservation, TooMuchUnread> {
        let reservation = self.0.take_within(units(bytes), MAX_WAIT).await.map(|taken| Reservation { _taken: taken });
        reservation.map_err(|Busy| TooMuchUnread)
    }
}

impl Reservation {
    /// Wraps `bytes` so that they hold this reservation until they are dropped, which hyper does once they are written to the connection.
    pub(crate) fn wrap(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(ReservedBytes { bytes: bytes.into(), _reservation: self })
    }
}

impl AsRef<[u8]> for ReservedBytes {
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
    async fn unread_bytes_take_room_and_sent_bytes_release_it() {
        let budget = ResponseBudget::new(CancellationToken::new());
        let ana = Caller::test("ana", None);
        let bob = Caller::test("bob", None);
        let mut unread = Vec::new();
        while let Ok(reservation) = budget.account(&ana, PIECE).reserve_first(PIECE).await {
            unread.push(reservation.wrap(vec![0; PIECE]));
            assert!(unread.len() < 1_000);
        }
        assert_eq!(unread.len() * PIECE, 4 << 20);
        assert!(budget.account(&bob, PIECE).reserve_first(PIECE).await.is_ok(), "each user has their own room");
        unread.pop();
        assert!(budget.account(&ana, PIECE).reserve_first(PIECE).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_response_cannot_exceed_its_own_limit() {
        let account = ResponseBudget::new(CancellationToken::new()).account(&Caller::test("ana", None), 2 * PIECE);
        let first = account.reserve(PIECE).await.unwrap();
        let _second = account.reserve(PIECE).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_hours(1), account.reserve(PIECE)).await.is_err());
        drop(first);
        assert!(account.reserve(PIECE).await.is_ok());
    }
}
