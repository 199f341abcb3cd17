//! Revocations that could not be stored: they are enforced from memory, and stored once the disk has room.

use std::net::IpAddr;

use parking_lot::{Mutex, MutexGuard};
use sallyport_core::names::username::UserName;
use tracing::info;

use crate::{
    identity::{KeyRecord, LinkRecord},
    limits::Ban,
    store::{Store, UserRecord, Withdrawal},
};

/// The maximum number of revocations that are enforced without being stored: more than are made while a disk is full.
const MAX: usize = 10_000;

/// The revocations that are not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Withdrawn(Mutex<Vec<Withdrawal>>);

impl Withdrawn {
    /// Adds a revocation; returns false if there are too many.
    pub(crate) fn add(&self, withdrawal: Withdrawal) -> bool {
        let mut all = self.all();
        let room = all.len() < MAX;
        if room && !all.contains(&withdrawal) {
            all.push(withdrawal);
        }
        room
    }

    /// Drops the ban of `network`; returns false if there is none.
    pub(crate) fn forget_ban(&self, network: IpAddr) -> bool {
        let mut all = self.all();
        let before = all.len();
        all.retain(|gone| !matches!(gone, Withdrawal::Ban(ban) if ban.network == network));
        all.len() < before
    }

    /// Returns all revocations, for a successor.
    pub(crate) fn list(&self) -> Vec<Withdrawal> {
        self.all().clone()
    }

    /// Stores the revocations that the disk has room for. Not to be called while the state is being read: a reader that has read a key before it
    /// is removed from the database must find it on this list.
    pub(crate) fn store(&self, store: &Store) {
        let mut stored = self.list();
        stored.retain(|withdrawal| store.withdraw(withdrawal).is_ok());
        if stored.is_empty() {
            return;
        }
        let mut all = self.all();
        all.retain(|withdrawal| !stored.contains(withdrawal));
        info!(stored = stored.len(), left = all.len(), "stored what was revoked while the disk was full");
    }

    /// Splits the stored keys into those that are valid and those that are revoked.
    pub(crate) fn keys(&self, stored: Vec<KeyRecord>) -> (Vec<KeyRecord>, Vec<KeyRecord>) {
        let all = self.all();
        let holds = |key: &KeyRecord| {
            !all.iter().any(|gone| *gone == Withdrawal::Key(key.id.clone()) || is_user(gone, &key.user))
        };
        stored.into_iter().partition(holds)
    }

    /// Returns the stored users that have not been removed.
    pub(crate) fn users(&self, mut stored: Vec<UserRecord>) -> Vec<UserRecord> {
        let all = self.all();
        stored.retain(|user| !all.iter().any(|gone| is_user(gone, &user.name)));
        stored
    }

    /// Returns when users were removed whose removal is not stored.
    pub(crate) fn removed_users(&self) -> Vec<(UserName, i64)> {
        self.all()
            .iter()
            .filter_map(|gone| match gone {
                Withdrawal::User { name, at } => Some((name.clone(), *at)),
                Withdrawal::Key(_) | Withdrawal::Link(_) | Withdrawal::Ban(_) => None,
            })
            .collect()
    }

    /// Returns the stored links that are not revoked.
    pub(crate) fn links(&self, mut stored: Vec<LinkRecord>) -> Vec<LinkRecord> {
        let all = self.all();
        stored.retain(|link| {
            !all.iter().any(|gone| *gone == Withdrawal::Link(link.id.clone()) || is_user(gone, &link.user))
        });
        stored
    }

    /// Returns the stored bans together with those that are not stored.
    pub(crate) fn bans(&self, mut stored: Vec<Ban>) -> Vec<Ban> {
        for gone in self.all().iter() {
            if let Withdrawal::Ban(ban) = gone {
                stored.retain(|stored| stored.network != ban.network);
                stored.push(ban.clone());
            }
        }
        stored
    }

    fn all(&self) -> MutexGuard<'_, Vec<Withdrawal>> {
        self.0.lock()
    }
}

fn is_user(gone: &Withdrawal, name: &UserName) -> bool {
    matches!(gone, Withdrawal::User { name: user, .. } if user == name)
}
