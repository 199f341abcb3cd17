//! `sallyport key`: manages API keys; changes take effect immediately.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use sallyport_core::{clock, config::Duration, names::username::UserName, secrets::random::random};
use sallyport_gateway::{
    identity::{
        KeyOrigin, KeyRecord, Scopes,
        api_key::{FreshKey, ImportedKey},
    },
    store::{NewKey, Withdrawal},
};
use serde::Serialize;
use serde_json::json;

use super::{
    grant,
    output::{Common, moment, table},
    state::State,
};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Create a key and print it once.
    Create(Create),
    /// List keys, without their secrets.
    List(List),
    /// Revoke a key immediately.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
    /// Owner of the key (default: the first administrator).
    #[arg(long)]
    user: Option<UserName>,
    /// Scope of the key, such as downloads:read; can be repeated (default: everything the user may do).
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Lifetime of the key, such as 30d (default: no expiry).
    #[arg(long, value_name = "DURATION")]
    expires: Option<Duration>,
    /// Note for the list of keys.
    #[arg(long, default_value = "")]
    note: String,
    /// Import a key that clients already use, from the first line of standard input.
    #[arg(long)]
    import_stdin: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    common: Common,
    /// ID of the key.
    id: String,
}

/// The properties of a new key.
pub(super) struct Grant<'a> {
    pub(super) user: &'a UserName,
    pub(super) scopes: &'a Scopes,
    pub(super) note: &'a str,
    pub(super) expires: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Listed {
    keys: Vec<ListedKey>,
}

#[derive(Debug, Serialize)]
struct ListedKey {
    id: String,
    user: String,
    scopes: String,
    note: String,
    created: String,
    expires: Option<String>,
    last_used: Option<String>,
}

impl Key {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Create(create) => create.run(),
            Self::List(list) => list.run(),
            Self::Revoke(revoke) => revoke.run(),
        }
    }
}

impl Create {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let user = state.user(self.user.as_ref())?.name;
        let scopes = grant::scopes(&state, &self.scopes)?;
        let expires = self.expires.map(grant::end).transpose()?;
        let grant = Grant { user: &user, scopes: &scopes, note: &self.note, expires };
        if self.import_stdin {
            let id = grant.import(&state, &read_line()?)?;
            state.announce()?;
            return self.common.output.print(&json!({ "id": id }), |_| format!("Imported the key as {id} of {user}."));
        }
        let key = grant.create(&state)?;
        state.announce()?;
        self.common.output.print(&json!({ "id": key.id, "key": key.reveal() }), |_| {
            format!("{}\n\nThis is key {} of {user}. It is shown only once.", key.reveal(), key.id)
        })
    }
}

impl Grant<'_> {
    /// Generates a key and stores its verifier.
    pub(super) fn create(&self, state: &State) -> Result<FreshKey> {
        let key = FreshKey::new(random(), random());
        self.store(state, &key.id, key.hash, KeyOrigin::Made)?;
        Ok(key)
    }

    /// Stores the verifier of a key that clients already use; returns its ID.
    fn import(&self, state: &State, text: &str) -> Result<String> {
        let key = ImportedKey::parse(text)?;
        let id = FreshKey::new(random(), random()).id;
        self.store(state, &id, key.hash, KeyOrigin::Imported).context("cannot import the key; it may already exist")?;
        Ok(id)
    }

    fn store(&self, state: &State, id: &str, hash: [u8; 32], origin: KeyOrigin) -> Result<()> {
        let Self { user, note, expires, .. } = *self;
        let scopes = self.scopes.to_string();
        let key = NewKey { id, hash, origin, user, scopes: &scopes, note, created: clock::unix_now(), expires };
        Ok(state.store.add_key(&key)?)
    }
}

fn read_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("no key on standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl List {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let keys = state.store.keys()?.into_iter().map(ListedKey::from).collect();
        self.common.output.print(&Listed { keys }, |listed| {
            let row = |k: &ListedKey| {
                let [expires, used] = [&k.expires, &k.last_used].map(|t| t.clone().unwrap_or_else(|| "never".into()));
                [k.id.clone(), k.user.clone(), k.scopes.clone(), expires, used, k.note.clone()]
            };
            table(
                ["ID", "USER", "SCOPES", "EXPIRES", "LAST USED", "NOTE"],
                &listed.keys.iter().map(row).collect::<Vec<_>>(),
            )
        })
    }
}

impl Revoke {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        if !state.withdraw(&Withdrawal::Key(self.id.clone()))? {
            bail!("there is no key {}", self.id);
        }
        self.common.output.print(&json!({ "id": self.id, "revoked": true }), |_| format!("Revoked key {}.", self.id))
    }
}

impl From<KeyRecord> for ListedKey {
    fn from(key: KeyRecord) -> Self {
        Self {
            id: key.id,
            user: key.user.to_string(),
            scopes: key.scopes,
            note: key.note,
            created: moment(key.created),
            expires: key.expires.map(moment),
            last_used: key.last_used.map(moment),
        }
    }
}
