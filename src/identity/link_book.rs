//! The links that were made and have not been taken back. A link that is not here opens nothing, whatever its signature.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Grant, UserId};
use crate::store::{LinkRecord, MakerRecord};

/// Links by their ids. The store bounds how many there are.
#[derive(Default)]
pub struct LinkBook(RwLock<HashMap<Box<str>, MadeLink>>);

/// What is known of a link beside what its signature covers.
#[derive(Clone, Debug)]
pub struct MadeLink {
    /// Whose it is; None for a user who was not on the list when it was made.
    pub owner: Option<UserId>,
    /// Who made it.
    pub maker: Maker,
    expires: i64,
}

/// Who made a link.
#[derive(Clone, Debug)]
pub enum Maker {
    /// Whoever commands this machine.
    Machine,
    /// Whoever held this credential.
    Holder(Arc<Grant>),
}

impl LinkBook {
    /// The links of these records. One whose maker cannot be read opens nothing.
    #[must_use]
    pub fn new(records: &[LinkRecord]) -> Self {
        let mut makers = HashMap::new();
        let links = records.iter().filter(|record| !record.revoked).filter_map(|record| {
            let maker = match &record.maker {
                None => Maker::Machine,
                Some(maker) => Maker::Holder(shared(&mut makers, maker)?),
            };
            Some((record.id.as_str().into(), MadeLink { owner: record.owner, maker, expires: record.expires }))
        });
        Self(RwLock::new(links.collect()))
    }

    /// Adds a link that was just made and stored.
    pub fn add(&self, record: &LinkRecord, maker: Maker) {
        let link = MadeLink { owner: record.owner, maker, expires: record.expires };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(record.id.as_str().into(), link);
    }

    /// What is known of the link.
    pub(super) fn get(&self, id: &str) -> Option<MadeLink> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Forgets links that have expired; to be called now and then.
    pub fn sweep(&self, now: i64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, link| link.expires >= now);
    }
}

/// One credential for all links that were made with it.
fn shared(
    known: &mut HashMap<*const MakerRecord, Option<Arc<Grant>>>,
    record: &Arc<MakerRecord>,
) -> Option<Arc<Grant>> {
    known.entry(Arc::as_ptr(record)).or_insert_with(|| Grant::from_record(record).map(Arc::new)).clone()
}
