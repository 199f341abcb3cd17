//! The one that says who a credential belongs to: a snapshot of keys, users and revocations, and the verifiers.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{
    ClientAuthorities, ClientCertificate, Credential, CredentialKind, Identity, Scopes,
    api_key::{ImportedKey, PresentedKey},
    jwt::{Issuer, JwtVerifier, TokenError},
    link::{LinkError, LinkKeys},
    offlinetube::OfflineTubeKey,
};
use crate::{
    store::{KeyOrigin, KeyRecord},
    username::UserName,
};

/// Everything that verifies credentials; replaced as a whole when state changes.
pub struct Authority {
    /// API keys.
    pub keys: KeyTable,
    /// Everybody who was added, and what they are.
    pub users: HashMap<UserName, Standing>,
    /// Tokens.
    pub jwt: Arc<JwtVerifier>,
    /// Links.
    pub links: LinkKeys,
    /// The ids of links that were taken back.
    pub revoked_links: HashSet<String>,
    /// Links in OfflineTube's style.
    pub offlinetube: OfflineTubeKey,
    /// Who vouches for client certificates; None: nobody.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
}

/// What a user may do to what belongs to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    Admin,
    /// Nothing.
    User,
}

/// API keys: those that were made here by their id, imported ones, which have none in their text, by their hash.
#[derive(Default)]
pub struct KeyTable {
    made: HashMap<Box<str>, KeyEntry>,
    imported: HashMap<[u8; 32], KeyEntry>,
}

struct KeyEntry {
    hash: [u8; 32],
    expires: Option<i64>,
    identity: Arc<Identity>,
    last_used: AtomicI64,
}

/// Why a credential that is present is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It proves nothing.
    Invalid,
    /// It was right once; for tokens, keys and certificates.
    Expired,
    /// A certificate that names nobody who is known.
    UnknownUser,
    /// A link whose signature is wrong.
    LinkForged,
    /// A link that was right once.
    LinkExpired,
}

impl KeyTable {
    /// Builds the table from what is stored; a key whose scopes do not parse gets none.
    #[must_use]
    pub fn new(records: Vec<KeyRecord>) -> Self {
        let mut table = Self::default();
        for record in records {
            match record.origin {
                KeyOrigin::Made => table.made.insert(record.id.clone().into(), KeyEntry::new(record)),
                KeyOrigin::Imported => table.imported.insert(record.hash, KeyEntry::new(record)),
            };
        }
        table
    }

    /// Who holds the presented key.
    pub fn verify(&self, text: &str, now: i64) -> Result<Arc<Identity>, Refusal> {
        let entry = self.entry(text).ok_or(Refusal::Invalid)?;
        if entry.expires.is_some_and(|at| now >= at) {
            return Err(Refusal::Expired);
        }
        entry.last_used.store(now, Ordering::Relaxed);
        Ok(Arc::clone(&entry.identity))
    }

    fn entry(&self, text: &str) -> Option<&KeyEntry> {
        let key = PresentedKey::parse(text).ok();
        let made = key.and_then(|key| self.made.get(key.id).filter(|e| key.matches(&e.hash)));
        if made.is_some() {
            return made;
        }
        if self.imported.is_empty() {
            return None;
        }
        // Finding a hash tells nothing of a text that has it, so this look-up need not take constant time.
        self.imported.get(&ImportedKey::parse(text).ok()?.hash)
    }

    fn stands(&self, id: &str, now: i64) -> bool {
        let imported = || self.imported.values().find(|e| e.identity.credential_id.as_deref() == Some(id));
        self.made.get(id).or_else(imported).is_some_and(|entry| entry.expires.is_none_or(|at| now < at))
    }

    /// The keys that worked since the last call, with the time.
    pub fn take_used(&self) -> Vec<(String, i64)> {
        let entries = self.made.values().chain(self.imported.values());
        let used = entries.map(|e| (e.identity.credential_id.as_deref(), e.last_used.swap(0, Ordering::Relaxed)));
        used.filter_map(|(id, at)| Some((id?.to_owned(), at))).filter(|(_, at)| *at > 0).collect()
    }
}

impl KeyEntry {
    fn new(record: KeyRecord) -> Self {
        let scopes: Scopes = record.scopes.parse().unwrap_or(Scopes::Only(Box::default()));
        let admin = record.admin && scopes.contains("admin");
        let credential_id = Some(record.id.into());
        let kind = CredentialKind::ApiKey;
        let identity = Identity { user: record.user, admin, scopes, kind, credential_id, certificate: None };
        Self { hash: record.hash, expires: record.expires, identity: Arc::new(identity), last_used: AtomicI64::new(0) }
    }
}

impl Authority {
    /// Whether a request that was let in earlier would still be known. A link's end is judged when a request begins, so
    /// that what has begun may be completed; a link or key that was taken back ends what runs under it.
    pub fn stands(&self, identity: &Identity, now: i64) -> bool {
        match (identity.kind, identity.credential_id.as_deref()) {
            (CredentialKind::ApiKey, Some(id)) => self.keys.stands(id, now),
            (CredentialKind::Link, Some(id)) => !self.revoked_links.contains(id),
            (CredentialKind::ClientCertificate, _) => {
                identity.certificate.as_ref().is_some_and(|shown| self.verify_certificate(shown, now).is_ok())
            }
            _ => true,
        }
    }

    /// Verifies a presented credential for a request to `path` of `app`, whose object (the route's parameter that
    /// OfflineTube's links name) is `object`.
    pub fn verify(
        &self,
        credential: &Credential<'_>,
        app: &str,
        path: &str,
        object: Option<&str>,
        now: i64,
    ) -> Result<Arc<Identity>, Refusal> {
        match credential {
            Credential::ApiKey(text) => self.keys.verify(text, now),
            Credential::Jwt(token) => self.verify_token(token, now),
            Credential::Link(link) => {
                let link = self.links.verify(app, path, link, now).map_err(link_refusal)?;
                if self.revoked_links.contains(&link.id) {
                    return Err(Refusal::LinkExpired);
                }
                Ok(Arc::new(bearer_of(link.user, CredentialKind::Link, Some(link.id.into()))))
            }
            Credential::OfflineTubeLink(link) => {
                let object = object.ok_or(Refusal::LinkForged)?;
                let user = self.offlinetube.verify(object, link, now).map_err(link_refusal)?;
                Ok(Arc::new(bearer_of(user, CredentialKind::OfflinetubeLink, None)))
            }
            Credential::ClientCertificate(certificate) => self.verify_certificate(certificate, now).map(Arc::new),
        }
    }

    fn verify_token(&self, token: &str, now: i64) -> Result<Arc<Identity>, Refusal> {
        let token = self.jwt.verify(token, now).map_err(|e| match e {
            TokenError::Expired => Refusal::Expired,
            TokenError::Invalid | TokenError::Early => Refusal::Invalid,
        })?;
        // A foreign issuer vouches for names, but nobody becomes an administrator by its word.
        let may_administrate = token.issuer == Issuer::Own && self.users.get(&token.user) == Some(&Standing::Admin);
        let admin = may_administrate && token.scopes.contains("admin");
        let (kind, credential_id, certificate) = (CredentialKind::Jwt, None, None);
        Ok(Arc::new(Identity { user: token.user, admin, scopes: token.scopes, kind, credential_id, certificate }))
    }

    /// A certificate is its user's own, so it may do whatever that user may.
    fn verify_certificate(&self, shown: &Arc<ClientCertificate>, now: i64) -> Result<Identity, Refusal> {
        let user = self.client_authorities.as_ref().ok_or(Refusal::Invalid)?.user(shown, now)?;
        let standing = self.users.get(&user).ok_or(Refusal::UnknownUser)?;
        Ok(Identity {
            admin: *standing == Standing::Admin,
            user,
            scopes: Scopes::All,
            kind: CredentialKind::ClientCertificate,
            credential_id: Some(shown.id().into()),
            certificate: Some(Arc::clone(shown)),
        })
    }
}

/// A link opens its one target for its user, and stands for no scope: the route decides that it takes links at all.
fn bearer_of(user: UserName, kind: CredentialKind, credential_id: Option<Box<str>>) -> Identity {
    Identity { user, admin: false, scopes: Scopes::All, kind, credential_id, certificate: None }
}

fn link_refusal(error: LinkError) -> Refusal {
    match error {
        LinkError::Forged => Refusal::LinkForged,
        LinkError::Expired => Refusal::LinkExpired,
    }
}
