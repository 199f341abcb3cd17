//! `sallyport link`: signed links, live.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;

use super::{
    output::{Common, moment, table},
    state::{State, now},
};
use crate::{
    config::Duration,
    gateway::{LinkPlace, LinkRefusal, LinkRequest},
    identity::{link::LinkKeys, offlinetube::OfflineTubeKey},
    policy,
    store::LinkRecord,
    username::UserName,
};

#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// Makes a link to one file.
    Create(Create),
    /// Lists links.
    List(List),
    /// Takes a link back, at once.
    Revoke(Revoke),
    /// Lets a new key sign; links under the key before it live on, older ones end.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
    /// The path on the site, such as /api/stream/NAME; percent-encoded, maybe with a query.
    path: String,
    /// How long it opens; [links] default_expiry unless given.
    #[arg(long, value_name = "DURATION")]
    expires: Option<Duration>,
    /// In whose name it acts; the first administrator's unless given.
    #[arg(long)]
    user: Option<UserName>,
    /// The application; the one that serves this path at the public URL unless given.
    #[arg(long)]
    app: Option<String>,
    /// The form of the link.
    #[arg(long, value_enum, default_value = "sallyport")]
    style: Style,
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
    /// The link's id.
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    common: Common,
}

/// The form of a link.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Style {
    /// Ours: covers the whole path, can be taken back.
    Sallyport,
    /// As OfflineTube recommends: expires, signature, user. It cannot be taken back one by one.
    Offlinetube,
}

#[derive(Debug, Serialize)]
struct Listed {
    links: Vec<ListedLink>,
}

#[derive(Debug, Serialize)]
struct ListedLink {
    id: String,
    app: String,
    target: String,
    user: String,
    created: String,
    expires: String,
    revoked: bool,
}

impl Link {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Create(create) => create.run(),
            Self::List(list) => list.run(),
            Self::Revoke(revoke) => revoke.run(),
            Self::Rotate(rotate) => rotate.run(),
        }
    }
}

impl Create {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let user = state.user(self.user.as_ref())?.name;
        match self.style {
            Style::Sallyport => self.sallyport(&state, user),
            Style::Offlinetube => self.offlinetube(&state, &user),
        }
    }

    fn sallyport(self, state: &State, user: UserName) -> Result<()> {
        let site = policy::compile(&state.config)?;
        let keys = state.secrets.link_keys_at_hand()?.with_context(|| no_secret(state, "link.keys"))?;
        let keys = LinkKeys::parse(keys.expose_secret())?;
        let base = state.config.public_url.as_str().trim_end_matches('/').to_owned();
        let host = state.config.public_url.authority().to_owned();
        let place = self.app.map_or(LinkPlace::Host(host), LinkPlace::App);
        let request = LinkRequest { place, target: self.path, life: self.expires, user, maker: None, base };
        let link = request.make(&state.config, &site, &keys, &state.store, now())?;
        self.common.output.print(&link, |link| link.url.clone())
    }

    fn offlinetube(self, state: &State, user: &UserName) -> Result<()> {
        let site = policy::compile(&state.config)?;
        let object =
            site.link_object(self.app.as_deref(), &self.path).context("no route takes such links at this path")?;
        let life = self.expires.map_or(state.config.links.default_expiry, |life| life.0);
        if life.is_zero() || life > state.config.links.max_expiry {
            return Err(LinkRefusal::BadLife.into());
        }
        let expires = now().saturating_add_unsigned(life.as_secs());
        let secret = state.secrets.offlinetube_at_hand()?.with_context(|| no_secret(state, "offlinetube.key"))?;
        let query = OfflineTubeKey::new(secret, state.config.links.max_expiry).sign(&object, user, expires);
        let url = format!("{}{}?{query}", state.config.public_url.as_str().trim_end_matches('/'), self.path);
        let document = json!({ "id": object, "url": url, "expires": moment(expires) });
        self.common.output.print(&document, |_| url.clone())
    }
}

impl List {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let links = state.store.links()?.into_iter().map(ListedLink::from).collect();
        self.common.output.print(&Listed { links }, |listed| {
            let row = |l: &ListedLink| {
                let state = if l.revoked { "taken back".to_owned() } else { l.expires.clone() };
                [l.id.clone(), l.user.clone(), state, l.target.clone()]
            };
            table(["ID", "USER", "EXPIRES", "TARGET"], &listed.links.iter().map(row).collect::<Vec<_>>())
        })
    }
}

impl Revoke {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        if !state.store.revoke_link(&self.id)? {
            bail!("there is no link {}", self.id);
        }
        state.announce()?;
        self.common
            .output
            .print(&json!({ "id": self.id, "revoked": true }), |_| format!("Link {} was taken back.", self.id))
    }
}

impl Rotate {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        state.secrets.rotate_link_keys()?;
        state.announce()?;
        self.common.output.print(&json!({ "rotated": true }), |_| "A new key signs links from now on.".to_owned())
    }
}

fn no_secret(state: &State, name: &str) -> String {
    let file = state.config.secrets_dir().join(name);
    format!(
        "{} does not exist, so nothing can be signed; restore it, or start the gateway, which makes a new one",
        file.display()
    )
}

impl From<LinkRecord> for ListedLink {
    fn from(link: LinkRecord) -> Self {
        Self {
            id: link.id,
            app: link.app,
            target: link.target,
            user: link.user.to_string(),
            created: moment(link.created),
            expires: moment(link.expires),
            revoked: link.revoked,
        }
    }
}
