//! The links that were created and not revoked. A link that is not in this book is refused, even with a valid signature.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::{LinkRecord, MakerRecord, Proof, UserId};

/// Links by id. The store limits their number.
#[derive(Default)]
pub struct LinkBook(RwLock<HashMap<Box<str>, MadeLink>>);

/// What is known about a link besides what its signature covers.
#[derive(Clone, Debug)]
pub struct MadeLink {
    /// The owner; `None` for a user who was not in the user list when the link was created.
    pub owner: Option<UserId>,
    /// The maker.
    pub maker: Maker,
    expires: i64,
}

/// The maker of a link.
#[derive(Clone, Debug)]
pub enum Maker {
    /// An operator with access to this machine.
    Machine,
    /// The holder of this credential.
    Holder(Arc<Proof>),
}

impl LinkBook {
    /// Creates the book from records. A link whose maker cannot be parsed is left out, and therefore refused.
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

    /// Adds a link that was just created and stored.
    pub fn add(&self, record: &LinkRecord, maker: Maker) {
        let link = MadeLink { owner: record.owner, maker, expires: record.expires };
        self.0.write().insert(record.id.as_str().into(), link);
    }

    /// Returns what is known about the link.
    pub(super) fn get(&self, id: &str) -> Option<MadeLink> {
        self.0.read().get(id).cloned()
    }

    /// Forgets expired links; call this now and then.
    pub fn sweep(&self, now: i64) {
        self.0.write().retain(|_, link| link.expires >= now);
    }
}

/// Shares one proof among all links that were created with it.
fn shared(
    known: &mut HashMap<*const MakerRecord, Option<Arc<Proof>>>,
    record: &Arc<MakerRecord>,
) -> Option<Arc<Proof>> {
    known.entry(Arc::as_ptr(record)).or_insert_with(|| Proof::from_record(record).map(Arc::new)).clone()
}
