//! The table of valid API keys. Keys created here are looked up by id, imported ones by hash, since their text contains no id.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{
    Identity, KeyOrigin, KeyRecord, Proof, Rejection, Scopes,
    api_key::{ImportedKey, PresentedKey},
    proof::KeyGrant,
};

/// All API keys.
#[derive(Default)]
pub struct KeyTable {
    by_id: HashMap<Arc<str>, KeyEntry>,
    /// The ids of imported keys.
    imported: HashMap<[u8; 32], Arc<str>>,
    /// The hashes of revoked keys.
    revoked: HashSet<[u8; 32]>,
}

struct KeyEntry {
    hash: [u8; 32],
    origin: KeyOrigin,
    grant: KeyGrant,
    identity: Arc<Identity>,
    last_used: AtomicI64,
}

impl KeyTable {
    /// Builds the table from stored records; a key whose scopes do not parse has no scope.
    ///
    /// `revoked` contains the hashes of revoked keys. A client that presents one is refused, but has not guessed.
    #[must_use]
    pub fn new(records: Vec<KeyRecord>, revoked: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut table = Self { revoked: revoked.into_iter().collect(), ..Self::default() };
        for record in records {
            let id: Arc<str> = record.id.as_str().into();
            if record.origin == KeyOrigin::Imported {
                table.imported.insert(record.hash, Arc::clone(&id));
            }
            table.by_id.insert(Arc::clone(&id), KeyEntry::new(record, id));
        }
        table
    }

    /// Returns the key that `text` is, whether or not it has expired.
    pub(super) fn recognise(&self, text: &str) -> Result<KeyGrant, Rejection> {
        match self.entry(text) {
            Some(entry) => Ok(entry.grant.clone()),
            None if self.was_revoked(text) => Err(Rejection::Unusable),
            None => Err(Rejection::Invalid),
        }
    }

    fn was_revoked(&self, text: &str) -> bool {
        if self.revoked.is_empty() {
            return false;
        }
        let made = PresentedKey::parse(text).is_ok_and(|key| self.revoked.contains(&key.hash));
        made || ImportedKey::parse(text).is_ok_and(|key| self.revoked.contains(&key.hash))
    }

    /// Returns the identity behind a recognised key.
    pub(super) fn judge(&self, key: &KeyGrant, now: i64) -> Result<Arc<Identity>, Rejection> {
        let entry = self.by_id.get(&key.id).ok_or(Rejection::Invalid)?;
        if entry.grant.expires.is_some_and(|at| now >= at) {
            return Err(Rejection::Expired);
        }
        Ok(Arc::clone(&entry.identity))
    }

    /// Records that a key was presented. Requests with links that were created with it do not count as a use.
    pub(super) fn touch(&self, key: &KeyGrant, now: i64) {
        if let Some(entry) = self.by_id.get(&key.id) {
            entry.last_used.store(now, Ordering::Relaxed);
        }
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
        // A matching hash reveals nothing about the key's text, so this look-up does not have to take constant time.
        self.by_id.get(self.imported.get(&ImportedKey::parse(text).ok()?.hash)?)
    }

    /// Returns the keys that were used since the last call, each with the time.
    pub fn take_used(&self) -> Vec<(String, i64)> {
        let used = self.by_id.iter().map(|(id, entry)| (id.to_string(), entry.last_used.swap(0, Ordering::Relaxed)));
        used.filter(|(_, at)| *at > 0).collect()
    }
}

impl KeyEntry {
    fn new(record: KeyRecord, id: Arc<str>) -> Self {
        let scopes: Scopes = record.scopes.parse().unwrap_or(Scopes::Only(Box::default()));
        let grant = KeyGrant { id, expires: record.expires };
        let identity = Identity {
            user: record.user,
            generation: record.generation,
            role: scopes.limit(record.role),
            scopes,
            proof: Proof::ApiKey(grant.clone()),
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
