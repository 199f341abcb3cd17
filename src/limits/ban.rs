//! Bans: who is shut out, until when, and longer each time.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// One client that is shut out, or was so lately.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ban {
    /// The client, as [`crate::address::client_network`] has it.
    pub network: IpAddr,
    /// Why, for people.
    pub why: String,
    /// When it began, in Unix seconds.
    pub since: i64,
    /// When it ends; None: when somebody takes it back.
    pub until: Option<i64>,
    /// How often the gateway has banned this client; it decides how long the next ban lasts.
    pub times: u32,
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanChange {
    /// A new ban.
    Made(Ban),
    /// A ban that need not be remembered any more.
    Forgotten(Ban),
}

/// All bans, and what of them is not written down yet.
///
/// Memory is bounded: beyond `max` the one that ends first makes room.
#[derive(Debug)]
pub struct BanBook {
    max: usize,
    bans: HashMap<IpAddr, Ban>,
    unwritten: Vec<BanChange>,
}

/// Until when clients are shut out, for looking them up without a lock.
pub type InForce = HashMap<IpAddr, Option<i64>>;

impl Ban {
    /// True while the client is shut out.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        holds(self.until, now)
    }

    /// A ban is remembered after its end for as long as the longest one lasts, so that the next one is longer.
    fn is_remembered(&self, durations: &[Duration], now: i64) -> bool {
        let memory = durations.iter().max().map_or(0, Duration::as_secs);
        self.until.is_none_or(|until| now < until.saturating_add_unsigned(memory))
    }
}

/// True before `until`.
#[must_use]
pub fn holds(until: Option<i64>, now: i64) -> bool {
    until.is_none_or(|until| now < until)
}

impl BanBook {
    /// Nobody is banned; never more than so many will be.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, bans: HashMap::new(), unwritten: Vec::new() }
    }

    /// Takes over what is written; what is not written yet stays.
    pub fn replace(&mut self, written: Vec<Ban>) {
        self.bans = written.into_iter().map(|ban| (ban.network, ban)).collect();
        for change in &self.unwritten {
            match change {
                BanChange::Made(ban) => self.bans.insert(ban.network, ban.clone()),
                BanChange::Forgotten(ban) => self.bans.remove(&ban.network),
            };
        }
    }

    /// Bans a client, longer than the last time. None where it is banned already.
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

    /// Forgets bans that ended long ago; to be called every few seconds.
    pub fn sweep(&mut self, durations: &[Duration], now: i64) {
        let gone = self.bans.extract_if(|_, ban| !ban.is_remembered(durations, now));
        self.unwritten.extend(gone.map(|(_, ban)| BanChange::Forgotten(ban)));
    }

    /// Who is shut out at `now`.
    #[must_use]
    pub fn in_force(&self, now: i64) -> InForce {
        self.bans.values().filter(|ban| ban.holds(now)).map(|ban| (ban.network, ban.until)).collect()
    }

    /// What is not written down yet; it counts as written from now on.
    pub fn take_unwritten(&mut self) -> Vec<BanChange> {
        std::mem::take(&mut self.unwritten)
    }

    /// Drops a ban that is not written down; false where there is none of that client.
    pub fn forget_unwritten(&mut self, network: IpAddr) -> bool {
        let before = self.unwritten.len();
        self.unwritten.retain(|change| !matches!(change, BanChange::Made(ban) if ban.network == network));
        let forgotten = self.unwritten.len() < before;
        if forgotten {
            self.bans.remove(&network);
        }
        forgotten
    }

    /// What could not be written is kept for another time, as much of it as there can be bans.
    pub fn put_back(&mut self, mut changes: Vec<BanChange>) {
        changes.append(&mut self.unwritten);
        changes.truncate(self.max);
        self.unwritten = changes;
    }

    /// Those that somebody has to take back stay.
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
    fn each_ban_of_a_client_is_longer_than_the_last_until_it_was_good_for_long() {
        let mut book = BanBook::new(100);
        assert_eq!(ban(&mut book, 1, 0), Some(10));
        assert_eq!(ban(&mut book, 1, 9), None, "it is banned already");
        assert_eq!(ban(&mut book, 1, 10), Some(60));
        assert_eq!(ban(&mut book, 2, 10), Some(10), "another client begins with the first");
        assert_eq!(ban(&mut book, 1, 70), Some(600));
        assert_eq!(ban(&mut book, 1, 670), Some(600), "there is no longer one");
        assert_eq!(ban(&mut book, 1, 1_270 + 600), Some(10), "it ended as long ago as the longest lasts");
    }

    #[test]
    fn what_has_ended_holds_no_more_and_is_forgotten_later() {
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
    fn a_full_book_forgets_what_ends_first_and_never_what_somebody_wrote_for_good() {
        let mut book = BanBook::new(3);
        let network = IpAddr::from([9, 9, 9, 9]);
        book.replace(vec![Ban { network, why: String::new(), since: 0, until: None, times: 0 }]);
        (1..100).for_each(|n| assert!(ban(&mut book, n, i64::from(n)).is_some()));
        assert_eq!(book.bans.len(), 3);
        assert!(book.bans.contains_key(&network) && book.bans.contains_key(&IpAddr::from(99_u32.to_be_bytes())));
    }

    #[test]
    fn what_is_not_written_yet_outlives_a_look_at_what_is() {
        let mut book = BanBook::new(100);
        ban(&mut book, 1, 0);
        book.replace(Vec::new());
        assert_eq!(book.in_force(5).len(), 1);
        book.take_unwritten();
        book.replace(Vec::new());
        assert!(book.in_force(5).is_empty(), "somebody has taken it back");
    }
}
