//! API keys that verify: those that were made here by their id, imported ones, which have none in their text, by their hash.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{
    Grant, Identity, Refusal, Scopes,
    api_key::{ImportedKey, PresentedKey},
    grant::KeyGrant,
};
use crate::store::{KeyOrigin, KeyRecord};

/// Every key there is.
#[derive(Default)]
pub struct KeyTable {
    by_id: HashMap<Arc<str>, KeyEntry>,
    /// The ids of imported keys.
    imported: HashMap<[u8; 32], Arc<str>>,
}

struct KeyEntry {
    hash: [u8; 32],
    origin: KeyOrigin,
    grant: KeyGrant,
    identity: Arc<Identity>,
    last_used: AtomicI64,
}

impl KeyTable {
    /// Builds the table from what is stored; a key whose scopes do not parse gets none.
    #[must_use]
    pub fn new(records: Vec<KeyRecord>) -> Self {
        let mut table = Self::default();
        for record in records {
            let id: Arc<str> = record.id.as_str().into();
            if record.origin == KeyOrigin::Imported {
                table.imported.insert(record.hash, Arc::clone(&id));
            }
            table.by_id.insert(Arc::clone(&id), KeyEntry::new(record, id));
        }
        table
    }

    /// Which key `text` is, whether or not it may still be used.
    pub(super) fn recognise(&self, text: &str) -> Result<KeyGrant, Refusal> {
        self.entry(text).map(|entry| entry.grant.clone()).ok_or(Refusal::Invalid)
    }

    /// Who holds a key that was recognised.
    pub(super) fn judge(&self, key: &KeyGrant, now: i64) -> Result<Arc<Identity>, Refusal> {
        let entry = self.by_id.get(&key.id).ok_or(Refusal::Invalid)?;
        if entry.grant.expires.is_some_and(|at| now >= at) {
            return Err(Refusal::Expired);
        }
        entry.last_used.store(now, Ordering::Relaxed);
        Ok(Arc::clone(&entry.identity))
    }

    fn entry(&self, text: &str) -> Option<&KeyEntry> {
        let key = PresentedKey::parse(text).ok();
        let is_made =
            |entry: &&KeyEntry, key: &PresentedKey<'_>| entry.origin == KeyOrigin::Made && key.matches(&entry.hash);
        let made = key.and_then(|key| self.by_id.get(key.id).filter(|entry| is_made(entry, &key)));
        if made.is_some() {
            return made;
        }
        if self.imported.is_empty() {
            return None;
        }
        // Finding a hash tells nothing of a text that has it, so this look-up need not take constant time.
        self.by_id.get(self.imported.get(&ImportedKey::parse(text).ok()?.hash)?)
    }

    /// The keys that worked since the last call, with the time.
    pub fn take_used(&self) -> Vec<(String, i64)> {
        let used = self.by_id.iter().map(|(id, entry)| (id.to_string(), entry.last_used.swap(0, Ordering::Relaxed)));
        used.filter(|(_, at)| *at > 0).collect()
    }
}

impl KeyEntry {
    fn new(record: KeyRecord, id: Arc<str>) -> Self {
        let scopes: Scopes = record.scopes.parse().unwrap_or(Scopes::Only(Box::default()));
        let admin = record.admin && scopes.contains("admin");
        let grant = KeyGrant { id, expires: record.expires };
        let identity = Identity {
            user: record.user,
            generation: record.generation,
            admin,
            scopes,
            grant: Grant::ApiKey(grant.clone()),
        };
        Self {
            hash: record.hash,
            origin: record.origin,
            grant,
            identity: Arc::new(identity),
            last_used: AtomicI64::new(0),
        }
    }
}
