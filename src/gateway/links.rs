//! Makes signed links, for `POST /.sallyport/links` and for `sallyport link create`.

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use crate::{
    config::{Config, Duration},
    identity::{
        CredentialKind, Identity,
        link::{LinkClaims, LinkKeys},
    },
    policy::{App, Parameters, Reason, SafePath, Site},
    random::random,
    store::{LinkRecord, Store},
    username::UserName,
};

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
    /// What the maker may do; None for who has the machine itself.
    pub maker: Option<std::sync::Arc<Identity>>,
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
    /// It cannot be kept.
    #[error("the link cannot be kept")]
    Internal,
}

impl LinkRefusal {
    /// The reason that the client is given.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::BadPath | Self::NoRoute | Self::BadLife | Self::BadUser => Reason::LinkRefused,
            Self::Forbidden => Reason::Forbidden,
            Self::Internal => Reason::Internal,
        }
    }
}

impl LinkRequest {
    /// Makes the link at `now` (Unix seconds), and keeps it on the list.
    pub fn make(
        &self,
        config: &Config,
        site: &Site,
        keys: &LinkKeys,
        store: &Store,
        now: i64,
    ) -> Result<MadeLink, LinkRefusal> {
        let app = self.app(site)?;
        let life = self.life.map_or(config.links.default_expiry, |life| life.0);
        if life.is_zero() || life > config.links.max_expiry {
            return Err(LinkRefusal::BadLife);
        }
        let expires = now.saturating_add_unsigned(life.as_secs());
        let id = data_encoding::HEXLOWER.encode(&random::<8>());
        let (user, target) = (self.user.clone(), self.target.clone());
        let claims = LinkClaims { app: &app.name, target: &target, user: user.as_str(), expires, id: &id };
        let separator = if target.contains('?') { '&' } else { '?' };
        let url = format!("{}{target}{separator}{}", self.base, keys.sign(&claims));
        let record = LinkRecord {
            id: id.clone(),
            app: app.name.to_string(),
            target,
            user,
            created: now,
            expires,
            revoked: false,
        };
        store.add_link(&record).map_err(|_| LinkRefusal::Internal)?;
        Ok(MadeLink { id, url, expires: Timestamp::from_second(expires).map_err(|_| LinkRefusal::BadLife)? })
    }

    fn app<'s>(&self, site: &'s Site) -> Result<&'s App, LinkRefusal> {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let path = SafePath::parse(path, Parameters::default()).map_err(|_| LinkRefusal::BadPath)?;
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
        match &self.maker {
            Some(maker) if !maker.scopes.contain_all(&route.scopes) => Err(LinkRefusal::Forbidden),
            Some(maker) if maker.user != self.user && !maker.admin => Err(LinkRefusal::Forbidden),
            _ => Ok(app),
        }
    }
}
