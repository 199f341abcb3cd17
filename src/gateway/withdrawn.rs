//! What was taken back and could not be stored: it is in force from here, and stored once the disk takes it.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::info;

use crate::{
    limits::Ban,
    store::{KeyRecord, LinkRecord, Store, UserRecord, Withdrawal},
    username::UserName,
};

/// More than anybody takes back while a disk is full; beyond this nothing is taken back without being stored.
const MAX: usize = 10_000;

/// What is not stored yet.
#[derive(Debug, Default)]
pub(super) struct Withdrawn(Mutex<Vec<Withdrawal>>);

impl Withdrawn {
    /// Keeps one more; false where there are too many.
    pub(super) fn add(&self, withdrawal: Withdrawal) -> bool {
        let mut all = self.all();
        let room = all.len() < MAX;
        if room && !all.contains(&withdrawal) {
            all.push(withdrawal);
        }
        room
    }

    /// Drops a ban; false where there is none of that client.
    pub(super) fn forget_ban(&self, network: IpAddr) -> bool {
        let mut all = self.all();
        let before = all.len();
        all.retain(|gone| !matches!(gone, Withdrawal::Ban(ban) if ban.network == network));
        all.len() < before
    }

    /// All of it, for a successor.
    pub(super) fn list(&self) -> Vec<Withdrawal> {
        self.all().clone()
    }

    /// Stores what the disk takes by now. Not while the state is being read: a reader that has read a key from the database
    /// before it is removed there must find it on this list.
    pub(super) fn store(&self, store: &Store) {
        let mut stored = self.list();
        stored.retain(|withdrawal| store.withdraw(withdrawal).is_ok());
        if stored.is_empty() {
            return;
        }
        let mut all = self.all();
        all.retain(|withdrawal| !stored.contains(withdrawal));
        info!(stored = stored.len(), left = all.len(), "stored what was revoked while the disk was full");
    }

    /// Of the stored keys those that still hold, and those that do not.
    pub(super) fn keys(&self, stored: Vec<KeyRecord>) -> (Vec<KeyRecord>, Vec<KeyRecord>) {
        let all = self.all();
        let holds = |key: &KeyRecord| {
            !all.iter().any(|gone| *gone == Withdrawal::Key(key.id.clone()) || is_user(gone, &key.user))
        };
        stored.into_iter().partition(holds)
    }

    /// Of the stored users those that are still there.
    pub(super) fn users(&self, mut stored: Vec<UserRecord>) -> Vec<UserRecord> {
        let all = self.all();
        stored.retain(|user| !all.iter().any(|gone| is_user(gone, &user.name)));
        stored
    }

    /// When users were removed, beside those whose removal is stored.
    pub(super) fn removed_users(&self) -> Vec<(UserName, i64)> {
        self.all()
            .iter()
            .filter_map(|gone| match gone {
                Withdrawal::User { name, at } => Some((name.clone(), *at)),
                Withdrawal::Key(_) | Withdrawal::Link(_) | Withdrawal::Ban(_) => None,
            })
            .collect()
    }

    /// Of the stored links those that still hold.
    pub(super) fn links(&self, mut stored: Vec<LinkRecord>) -> Vec<LinkRecord> {
        let all = self.all();
        stored.retain(|link| {
            !all.iter().any(|gone| *gone == Withdrawal::Link(link.id.clone()) || is_user(gone, &link.user))
        });
        stored
    }

    /// The stored bans, and those that are not.
    pub(super) fn bans(&self, mut stored: Vec<Ban>) -> Vec<Ban> {
        for gone in self.all().iter() {
            if let Withdrawal::Ban(ban) = gone {
                stored.retain(|stored| stored.network != ban.network);
                stored.push(ban.clone());
            }
        }
        stored
    }

    fn all(&self) -> MutexGuard<'_, Vec<Withdrawal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_user(gone: &Withdrawal, name: &UserName) -> bool {
    matches!(gone, Withdrawal::User { name: user, .. } if user == name)
}
