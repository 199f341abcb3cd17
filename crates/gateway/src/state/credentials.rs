//! Reads the data that credentials are verified with, part by part. A part that cannot be read stays unchanged, and does not keep
//! revocations in the other parts from taking effect.

use std::{collections::HashMap, sync::Arc};

use sallyport_core::secrets::secret_file::SecretError;
use secrecy::{ExposeSecret, SecretString};

use super::{error::StateError, rules::Rules, withdrawn::Withdrawn};
use crate::{
    identity::{Authenticator, KeyTable, LinkBook, People, User, link::LinkKeys, offlinetube::OfflineTubeKey},
    store::{DatedSecret, Secrets, Store},
};

/// The data that was read.
pub(crate) struct CredentialState {
    pub(crate) authority: Authenticator,
    /// The text of `link.keys`, if it could be read.
    pub(crate) link_keys: Option<SecretString>,
    /// The errors of the parts that are unchanged.
    pub(crate) unread: Vec<StateError>,
}

impl CredentialState {
    /// Reads everything for the first time, and creates missing secrets.
    pub(crate) fn first(
        store: &Store,
        withdrawn: &Withdrawn,
        secrets: &Secrets,
        rules: &Rules,
        now: i64,
    ) -> Result<Self, StateError> {
        let parts = CredentialSources {
            link_keys: secrets.link_keys(),
            offlinetube: secrets.offlinetube(),
            withdrawn,
            old: None,
        };
        parts.read(store, rules, now)
    }

    /// Re-reads everything while `old` is in force. A secret that is missing now is not created: it would replace one that may be back in a
    /// moment.
    pub(crate) fn again(
        store: &Store,
        withdrawn: &Withdrawn,
        secrets: &Secrets,
        rules: &Rules,
        old: &Authenticator,
        now: i64,
    ) -> Result<Self, StateError> {
        let link_keys = secrets.link_keys_at_hand().and_then(|keys| keys.ok_or_else(|| secrets.gone("link.keys")));
        let offlinetube =
            secrets.offlinetube_at_hand().and_then(|secret| secret.ok_or_else(|| secrets.gone("offlinetube.key")));
        CredentialSources { link_keys, offlinetube, withdrawn, old: Some(old) }.read(store, rules, now)
    }
}

/// The files as read, and the state in force.
struct CredentialSources<'a> {
    link_keys: Result<SecretString, SecretError>,
    offlinetube: Result<DatedSecret, SecretError>,
    /// Revocations that the database does not contain yet.
    withdrawn: &'a Withdrawn,
    old: Option<&'a Authenticator>,
}

impl CredentialSources<'_> {
    fn read(self, store: &Store, rules: &Rules, now: i64) -> Result<CredentialState, StateError> {
        let Self { link_keys, offlinetube, withdrawn, old } = self;
        let mut unread = Vec::new();
        let (link_keys, keys) = match link_keys {
            Ok(text) => (Some(text.clone()), LinkKeys::parse(text.expose_secret()).map_err(StateError::from)),
            Err(error) => (None, Err(error.into())),
        };
        let max_life = rules.config.links.max_expiry;
        let offlinetube = offlinetube.map(|dated| OfflineTubeKey::new(dated.secret, max_life, dated.since));
        let made = store.open_links(now).map(|links| LinkBook::new(&withdrawn.links(links)));
        let authority = Authenticator {
            keys: key_table(store, withdrawn)?,
            people: people(store, withdrawn)?,
            jwt: Arc::clone(&rules.jwt),
            links: or_as_it_was(keys, old.map(|old| &old.links), &mut unread)?,
            made_links: or_as_it_was(made.map_err(StateError::from), old.map(|old| &old.made_links), &mut unread)?,
            offlinetube: or_as_it_was(
                offlinetube.map_err(StateError::from),
                old.map(|old| &old.offlinetube),
                &mut unread,
            )?,
            client_authorities: rules.client_authorities.clone(),
        };
        Ok(CredentialState { authority, link_keys, unread })
    }
}

fn or_as_it_was<T>(
    read: Result<T, StateError>,
    old: Option<&Arc<T>>,
    unread: &mut Vec<StateError>,
) -> Result<Arc<T>, StateError> {
    match (read, old) {
        (Ok(new), _) => Ok(Arc::new(new)),
        (Err(error), Some(old)) => {
            unread.push(error);
            Ok(Arc::clone(old))
        }
        (Err(error), None) => Err(error),
    }
}

fn key_table(store: &Store, withdrawn: &Withdrawn) -> Result<KeyTable, StateError> {
    let (hold, withdrawn) = withdrawn.keys(store.keys()?);
    let revoked = store.revoked_keys()?.into_iter().chain(withdrawn.iter().map(|key| key.hash));
    Ok(KeyTable::new(hold, revoked))
}

/// Reads the users. A user whose role cannot be read counts as removed, so that no issuer can vouch for the name.
fn people(store: &Store, withdrawn: &Withdrawn) -> Result<People, StateError> {
    // The names are read first: a user who is added in between is missing from them, not from the users.
    let names = store.user_names()?;
    let users = withdrawn.users(store.users()?).into_iter().map(|record| {
        let user = User { id: record.id, role: record.role, name_use: record.name_use };
        (record.name, user)
    });
    let users: HashMap<_, _> = users.collect();
    let unreadable = names.into_iter().filter(|name| !users.contains_key(name)).map(|name| (name, i64::MAX));
    let removed = unreadable.chain(store.removed_users()?).chain(withdrawn.removed_users());
    Ok(People { removed: removed.collect(), users })
}
