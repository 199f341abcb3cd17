//! Bans: which clients are banned and until when. Each ban of a client is longer than the last.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// A client that is banned, or was banned recently.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ban {
    /// The client, in the form of [`sallyport_core::addresses::client_network`].
    pub network: IpAddr,
    /// The reason, for people to read.
    pub why: String,
    /// When the ban began, in Unix seconds.
    pub since: i64,
    /// When the ban ends; `None` if it lasts until it is removed.
    pub until: Option<i64>,
    /// How often the gateway has banned this client, which determines how long the next ban lasts.
    pub times: u32,
}

/// A change that has to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanChange {
    /// A new ban.
    Made(Ban),
    /// A ban that no longer needs to be remembered.
    Forgotten(Ban),
}

/// All bans, and the changes that are not saved yet.
///
/// Memory is bounded: beyond `max` bans, the one that ends first is dropped.
#[derive(Debug)]
pub struct BanBook {
    max: usize,
    bans: HashMap<IpAddr, Ban>,
    unwritten: Vec<BanChange>,
}

/// The end of each active ban, for look-ups without a lock.
pub type InForce = HashMap<IpAddr, Option<i64>>;

impl Ban {
    /// Returns true while the client is banned.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        holds(self.until, now)
    }

    /// A ban is remembered after its end for as long as the longest ban lasts, so that the next one is longer.
    fn is_remembered(&self, durations: &[Duration], now: i64) -> bool {
        let memory = durations.iter().max().map_or(0, Duration::as_secs);
        self.until.is_none_or(|until| now < until.saturating_add_unsigned(memory))
    }
}

/// Returns true before `until`.
#[must_use]
pub fn holds(until: Option<i64>, now: i64) -> bool {
    until.is_none_or(|until| now < until)
}

impl BanBook {
    /// Creates an empty book for at most `max` bans.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, bans: HashMap::new(), unwritten: Vec::new() }
    }

    /// Replaces the bans with the saved ones and reapplies the changes that are not saved yet.
    pub fn replace(&mut self, written: Vec<Ban>) {
        self.bans = written.into_iter().map(|ban| (ban.network, ban)).collect();
        for change in &self.unwritten {
            match change {
                BanChange::Made(ban) => self.bans.insert(ban.network, ban.clone()),
                BanChange::Forgotten(ban) => self.bans.remove(&ban.network),
            };
        }
    }

    /// Bans a client, longer than the last time. Returns `None` if it is already banned.
    pub fn ban(&mut self, network: IpAddr, why: String, durations: &[Duration], now: i64) -> Option<Ban> {
        let before = self.bans.get(&network).filter(|ban| ban.is_remembered(durations, now));
        if before.is_some_and(|ban| ban.holds(now)) {
            return None;
        }
        let times = before.map_or(0, |ban| ban.times);
        let duration = durations.get(times as usize).or(durations.last())?;
        let until = now.saturating_add_unsigned(duration.as_secs());
        let ban = Ban { network, why, since: now, until: Some(until), times: times.saturating_add(1) };
        self.make_room();
        self.unwritten.push(BanChange::Made(ban.clone()));
        self.bans.insert(network, ban.clone());
        Some(ban)
    }

    /// Forgets bans that ended long ago; call this every few seconds.
    pub fn sweep(&mut self, durations: &[Duration], now: i64) {
        let gone = self.bans.extract_if(|_, ban| !ban.is_remembered(durations, now));
        self.unwritten.extend(gone.map(|(_, ban)| BanChange::Forgotten(ban)));
    }

    /// Returns the clients that are banned at `now`.
    #[must_use]
    pub fn in_force(&self, now: i64) -> InForce {
        self.bans.values().filter(|ban| ban.holds(now)).map(|ban| (ban.network, ban.until)).collect()
    }

    /// Returns the changes that are not saved yet, and from now on counts them as saved.
    pub fn take_unwritten(&mut self) -> Vec<BanChange> {
        std::mem::take(&mut self.unwritten)
    }

    /// Drops a ban that is not saved yet; returns false if there is none of that client.
    pub fn forget_unwritten(&mut self, network: IpAddr) -> bool {
        let before = self.unwritten.len();
        self.unwritten.retain(|change| !matches!(change, BanChange::Made(ban) if ban.network == network));
        let forgotten = self.unwritten.len() < before;
        if forgotten {
            self.bans.remove(&network);
        }
        forgotten
    }

    /// Keeps changes that could not be saved for another attempt, at most as many as there can be bans.
    pub fn put_back(&mut self, mut changes: Vec<BanChange>) {
        changes.append(&mut self.unwritten);
        changes.truncate(self.max);
        self.unwritten = changes;
    }

    /// Drops the ban that ends first, if the book is full. Bans without an end stay.
    fn make_room(&mut self) {
        if self.bans.len() < self.max {
            return;
        }
        let first = self.bans.values().filter_map(|ban| Some((Reverse(ban.until?), ban.network))).max();
        if let Some(ban) = first.and_then(|(_, network)| self.bans.remove(&network)) {
            self.unwritten.push(BanChange::Forgotten(ban));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATIONS: [Duration; 3] = [Duration::from_secs(10), Duration::from_mins(1), Duration::from_mins(10)];

    fn ban(book: &mut BanBook, n: u32, now: i64) -> Option<i64> {
        let network = IpAddr::from(n.to_be_bytes());
        book.ban(network, "why".into(), &DURATIONS, now).map(|ban| ban.until.unwrap() - now)
    }

    #[test]
    fn each_ban_of_a_client_is_longer_than_the_last_until_it_has_behaved_for_long() {
        let mut book = BanBook::new(100);
        assert_eq!(ban(&mut book, 1, 0), Some(10));
        assert_eq!(ban(&mut book, 1, 9), None, "it is already banned");
        assert_eq!(ban(&mut book, 1, 10), Some(60));
        assert_eq!(ban(&mut book, 2, 10), Some(10), "another client starts with the first duration");
        assert_eq!(ban(&mut book, 1, 70), Some(600));
        assert_eq!(ban(&mut book, 1, 670), Some(600), "this is the longest duration");
        assert_eq!(ban(&mut book, 1, 1_270 + 600), Some(10), "the ban ended as long ago as the longest duration");
    }

    #[test]
    fn an_ended_ban_no_longer_applies_and_is_forgotten_later() {
        let mut book = BanBook::new(100);
        ban(&mut book, 1, 0);
        assert_eq!((book.in_force(9).len(), book.in_force(10).len()), (1, 0));
        book.take_unwritten();
        book.sweep(&DURATIONS, 609);
        assert!(book.take_unwritten().is_empty());
        book.sweep(&DURATIONS, 610);
        assert!(matches!(&book.take_unwritten()[..], [BanChange::Forgotten(_)]));
        assert!(book.bans.is_empty());
    }

    #[test]
    fn a_full_book_drops_the_ban_that_ends_first_and_never_one_without_an_end() {
        let mut book = BanBook::new(3);
        let network = IpAddr::from([9, 9, 9, 9]);
        book.replace(vec![Ban { network, why: String::new(), since: 0, until: None, times: 0 }]);
        (1..100).for_each(|n| assert!(ban(&mut book, n, i64::from(n)).is_some()));
        assert_eq!(book.bans.len(), 3);
        assert!(book.bans.contains_key(&network) && book.bans.contains_key(&IpAddr::from(99_u32.to_be_bytes())));
    }

    #[test]
    fn unsaved_bans_survive_a_reload_of_the_saved_ones() {
        let mut book = BanBook::new(100);
        ban(&mut book, 1, 0);
        book.replace(Vec::new());
        assert_eq!(book.in_force(5).len(), 1);
        book.take_unwritten();
        book.replace(Vec::new());
        assert!(book.in_force(5).is_empty(), "the ban was removed");
    }
}
