//! `sallyport link`: manages signed links; changes take effect immediately.

use std::io::ErrorKind;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use sallyport_core::{clock, config::Duration, names::username::UserName, secrets::secret_file::SecretError};
use sallyport_gateway::{
    LinkPlace, LinkRefusal, LinkRequest,
    identity::{LinkRecord, MakerRecord, Proof, link::LinkKeys, offlinetube::OfflineTubeKey},
    policy,
    store::{UserRecord, Withdrawal},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::json;

use super::{
    output::{Common, moment, table},
    state::State,
};

#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// Create a link to one file.
    Create(Create),
    /// List links.
    List(List),
    /// Revoke a link immediately.
    Revoke(Revoke),
    /// Sign with a new key; links signed with the previous key stay valid, older ones end.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
    /// Path on the site, such as /api/stream/NAME; percent-encoded, with an optional query.
    path: String,
    /// Lifetime of the link (default: links.default_expiry in the configuration).
    #[arg(long, value_name = "DURATION")]
    expires: Option<Duration>,
    /// User the link acts for (default: the first administrator).
    #[arg(long)]
    user: Option<UserName>,
    /// Application of the link (default: the one that serves this path at the public URL).
    #[arg(long)]
    app: Option<String>,
    /// Format of the link.
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
    /// ID of the link.
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    common: Common,
}

/// The format of a link.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Style {
    /// Sallyport's own: covers the whole path and can be revoked.
    Sallyport,
    /// As OfflineTube recommends: expires, signature, user. Such links cannot be revoked one by one.
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
    made_by: Option<MadeBy>,
}

/// The credential that created a link; when it ends, so does the link.
#[derive(Debug, Serialize)]
struct MadeBy {
    credential: String,
    id: Option<String>,
    user: Option<String>,
    expires: Option<String>,
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
        let user = state.user(self.user.as_ref())?;
        match self.style {
            Style::Sallyport => self.sallyport(&state, user),
            Style::Offlinetube => self.offlinetube(&state, &user.name),
        }
    }

    fn sallyport(self, state: &State, user: UserRecord) -> Result<()> {
        let site = policy::compile(&state.config)?;
        let keys = state.secrets.link_keys_at_hand()?.with_context(|| no_secret(state, "link.keys"))?;
        let keys = LinkKeys::parse(keys.expose_secret())?;
        let base = state.config.public_url.as_str().trim_end_matches('/').to_owned();
        let host = state.config.public_url.authority().to_owned();
        let place = self.app.map_or(LinkPlace::Host(host), LinkPlace::App);
        let request = LinkRequest {
            place,
            target: self.path,
            life: self.expires,
            user: user.name,
            owner: Some(user.id),
            maker: None,
            base,
        };
        let (link, _) = request.make(&state.config, &site, &keys, &state.store, clock::unix_now())?;
        // A link opens nothing until the gateway knows it.
        state.announce()?;
        self.common.output.print(&link, |link| link.url.clone())
    }

    fn offlinetube(self, state: &State, user: &UserName) -> Result<()> {
        let site = policy::compile(&state.config)?;
        let object = site
            .link_object(self.app.as_deref(), &self.path)
            .context("no route accepts OfflineTube links at this path")?;
        let life = self.expires.map_or(state.config.links.default_expiry, |life| life.0);
        if life.is_zero() || life > state.config.links.max_expiry {
            return Err(LinkRefusal::BadLife.into());
        }
        let expires = clock::unix_now().saturating_add_unsigned(life.as_secs());
        let dated = state.secrets.offlinetube_at_hand()?.with_context(|| no_secret(state, "offlinetube.key"))?;
        refuse_namesakes(state, user, dated.since)?;
        let key = OfflineTubeKey::new(dated.secret, state.config.links.max_expiry, dated.since);
        let query = key.sign(&object, user, expires);
        let url = format!("{}{}?{query}", state.config.public_url.as_str().trim_end_matches('/'), self.path);
        let document = json!({ "id": object, "url": url, "expires": moment(expires) });
        self.common.output.print(&document, |_| url.clone())
    }
}

/// A link in OfflineTube's style names its user but not which one of that name. The gateway refuses it if the secret is older
/// than the removal of an earlier user of the name, since it may have been made for them.
fn refuse_namesakes(state: &State, user: &UserName, secret_since: i64) -> Result<()> {
    let removed = state.store.removed_users()?.into_iter().find(|(name, _)| name == user);
    match removed {
        Some((_, at)) if secret_since <= at => bail!(
            "an earlier user had the name {user}, and OfflineTube links do not say which of the two they are for; \
             create a Sallyport link instead, or write a new secret to {} and send SIGHUP to the gateway",
            state.secrets.offlinetube_path().display()
        ),
        _ => Ok(()),
    }
}

impl List {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let links = state.store.links()?.into_iter().map(ListedLink::from).collect();
        self.common.output.print(&Listed { links }, |listed| {
            let row = |l: &ListedLink| {
                let state = if l.revoked { "revoked".to_owned() } else { l.expires.clone() };
                let maker = l.made_by.as_ref().map_or_else(|| "command line".to_owned(), MadeBy::words);
                [l.id.clone(), l.user.clone(), state, maker, l.target.clone()]
            };
            table(["ID", "USER", "EXPIRES", "MADE BY", "TARGET"], &listed.links.iter().map(row).collect::<Vec<_>>())
        })
    }
}

impl Revoke {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        if !state.withdraw(&Withdrawal::Link(self.id.clone()))? {
            bail!("there is no link {}", self.id);
        }
        self.common.output.print(&json!({ "id": self.id, "revoked": true }), |_| format!("Revoked link {}.", self.id))
    }
}

impl Rotate {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        match state.secrets.rotate_link_keys() {
            // Old links must end even if the disk is full.
            Err(SecretError::Io(_, e)) if e.kind() == ErrorKind::StorageFull && state.store.give_up_reserve() => {
                state.secrets.rotate_link_keys()?
            }
            other => other?,
        };
        state.announce_whole()?;
        self.common.output.print(&json!({ "rotated": true }), |_| "New links are signed with a new key.".to_owned())
    }
}

fn no_secret(state: &State, name: &str) -> String {
    let file = state.config.secrets_dir().join(name);
    format!("cannot sign: {} does not exist; restore it, or start the gateway to create a new one", file.display())
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
            made_by: link.maker.as_deref().map(MadeBy::from),
        }
    }
}

impl From<&MakerRecord> for MadeBy {
    fn from(maker: &MakerRecord) -> Self {
        let proof = Proof::from_record(maker);
        let user = proof.as_ref().and_then(Proof::named_user).map(ToString::to_string);
        Self {
            credential: maker.kind.clone(),
            id: Some(maker.name.clone()).filter(|name| !name.is_empty()),
            user,
            expires: proof.and_then(|proof| proof.expires()).map(moment),
        }
    }
}

impl MadeBy {
    fn words(&self) -> String {
        [Some(&self.credential), self.id.as_ref(), self.user.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    }
}
