//! Makes signed links, for `POST /.sallyport/links` and for `sallyport link create`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tracing::error;

use crate::{
    config::{Config, Duration},
    identity::{
        CredentialKind, Grant, Identity, Maker, UserId,
        link::{LinkClaims, LinkKeys, without_empty_query},
    },
    policy::{App, Parameters, Reason, SafePath, Site},
    random::random,
    store::{Added, LinkQuota, LinkRecord, Store},
    username::UserName,
};

/// So many bytes of what a link was made with are kept with it: a certificate and two above it, with large RSA keys.
const MAX_MAKER: usize = 8 << 10;
/// So much of a link's target is kept for the list, in bytes.
const MAX_LISTED_TARGET: usize = 1_024;

/// A link that somebody wants.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// Which application.
    pub place: LinkPlace,
    /// Path, and query where there is one.
    pub target: String,
    /// Its life; None for the configured one.
    pub life: Option<Duration>,
    /// In whose name it acts.
    pub user: UserName,
    /// The number of that user; None for somebody who is not on the list.
    pub owner: Option<UserId>,
    /// What the maker may do; None for who has the machine itself.
    pub maker: Option<Arc<Identity>>,
    /// Scheme and authority for the URL.
    pub base: String,
}

/// Which application a link leads to.
#[derive(Clone, Debug)]
pub enum LinkPlace {
    /// The one of this name.
    App(String),
    /// The one that a request to this host goes to.
    Host(String),
}

/// A link that was made.
#[derive(Debug, Serialize)]
pub struct MadeLink {
    /// Its id, for taking it back.
    pub id: String,
    /// The whole URL.
    pub url: String,
    /// Until when.
    pub expires: Timestamp,
}

/// Why no link is made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LinkRefusal {
    /// The path cannot be judged.
    #[error("the path cannot be judged without doubt")]
    BadPath,
    /// No route takes links there.
    #[error("no route takes signed links at this path")]
    NoRoute,
    /// The life is not one.
    #[error("expires must be a duration like \"1h\", and not longer than links may live here")]
    BadLife,
    /// The user is not one.
    #[error("user must be the name of a user")]
    BadUser,
    /// The maker may not go there, or not in that name.
    #[error("not allowed")]
    Forbidden,
    /// What it is made with cannot be kept with it.
    #[error(
        "the credential that was sent is too large to be kept with a link; use an API key, or a client certificate with fewer certificates beside it"
    )]
    LargeMaker,
    /// There are as many as there may be.
    #[error("there is no room for another link in this user's name; revoke one, or wait until one expires")]
    TooMany,
    /// It cannot be kept.
    #[error("the link cannot be kept")]
    Internal,
}

impl LinkRefusal {
    /// The reason that the client is given.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::BadPath | Self::NoRoute | Self::BadLife | Self::BadUser | Self::LargeMaker => Reason::LinkRefused,
            Self::Forbidden => Reason::Forbidden,
            Self::TooMany => Reason::TooManyLinks,
            Self::Internal => Reason::Internal,
        }
    }
}

impl LinkRequest {
    /// Makes the link at `now` (Unix seconds), and keeps it on the list. It ends with what it is made with, or earlier.
    pub fn make(
        &self,
        config: &Config,
        site: &Site,
        keys: &LinkKeys,
        store: &Store,
        now: i64,
    ) -> Result<(MadeLink, LinkRecord), LinkRefusal> {
        let app = self.app(site)?;
        let life = self.life.map_or(config.links.default_expiry, |life| life.0);
        if life.is_zero() || life > config.links.max_expiry {
            return Err(LinkRefusal::BadLife);
        }
        let ends = self.maker.as_ref().and_then(|maker| maker.grant.expires()).unwrap_or(i64::MAX);
        let expires = now.saturating_add_unsigned(life.as_secs()).min(ends);
        let id = data_encoding::HEXLOWER.encode(&random::<8>());
        let (user, target) = (self.user.as_str(), without_empty_query(&self.target));
        let signed = keys.sign(&LinkClaims { app: &app.name, target, user, expires, id: &id });
        let separator = if target.contains('?') { '&' } else { '?' };
        let url = format!("{}{target}{separator}{signed}", self.base);
        let record = self.record(app, id.clone(), (now, expires))?;
        let quota = LinkQuota { per_user: config.links.max_per_user, in_all: config.links.max_in_all };
        match store.add_link(&record, quota) {
            Ok(Added::Kept) => {}
            Ok(Added::TooMany) => return Err(LinkRefusal::TooMany),
            Err(error) => {
                error!(%error, "a link cannot be kept");
                return Err(LinkRefusal::Internal);
            }
        }
        let expires = Timestamp::from_second(expires).map_err(|_| LinkRefusal::BadLife)?;
        Ok((MadeLink { id, url, expires }, record))
    }

    fn record(&self, app: &App, id: String, (created, expires): (i64, i64)) -> Result<LinkRecord, LinkRefusal> {
        let maker = match &self.maker {
            Some(maker) => Some(maker.grant.to_record().ok_or(LinkRefusal::Forbidden)?),
            None => None,
        };
        if maker.as_ref().is_some_and(|maker| maker.name.len() + maker.proof.len() > MAX_MAKER) {
            return Err(LinkRefusal::LargeMaker);
        }
        Ok(LinkRecord {
            id,
            app: app.name.to_string(),
            target: listed(without_empty_query(&self.target)),
            user: self.user.clone(),
            owner: self.owner,
            maker: maker.map(Arc::new),
            created,
            expires,
            revoked: false,
        })
    }

    /// Who makes it, as the link book has it.
    pub(super) fn made_with(&self) -> Maker {
        let holder = |maker: &Arc<Identity>| Maker::Holder(Arc::new(Grant::clone(&maker.grant)));
        self.maker.as_ref().map_or(Maker::Machine, holder)
    }

    fn app<'s>(&self, site: &'s Site) -> Result<&'s App, LinkRefusal> {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let path = SafePath::read(path, Parameters::default()).map_err(|_| LinkRefusal::BadPath)?;
        let own = |pair: &str| pair.starts_with("sp_");
        if query.split('&').any(own) || !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(LinkRefusal::BadPath);
        }
        let app = match &self.place {
            LinkPlace::App(name) => site.apps().iter().find(|app| *app.name == **name),
            LinkPlace::Host(host) => site.app(host, path.decoded()),
        };
        let app = app.ok_or(LinkRefusal::NoRoute)?;
        let route = app.route_for_get(path.decoded()).filter(|r| r.credentials.contains(CredentialKind::Link));
        let route = route.ok_or(LinkRefusal::NoRoute)?;
        path.judge_names(route.names).map_err(|_| LinkRefusal::BadPath)?;
        match &self.maker {
            Some(maker) if !maker.scopes.contain_all(&route.scopes) => Err(LinkRefusal::Forbidden),
            Some(maker) if maker.user != self.user && !maker.admin => Err(LinkRefusal::Forbidden),
            _ => Ok(app),
        }
    }
}

fn listed(target: &str) -> String {
    if target.len() <= MAX_LISTED_TARGET {
        return target.to_owned();
    }
    let end = (0..=MAX_LISTED_TARGET).rev().find(|end| target.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", target.get(..end).unwrap_or_default())
}
