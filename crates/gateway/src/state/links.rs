//! Creates signed links, for `POST /.sallyport/links` and for `sallyport link create`.

use std::sync::Arc;

use jiff::Timestamp;
use sallyport_core::{
    config::{Config, Duration},
    names::username::UserName,
    secrets::random::random,
};
use serde::Serialize;
use thiserror::Error;
use tracing::error;

use crate::{
    identity::{
        CredentialKind, Identity, LinkRecord, Maker, Proof, UserId,
        link::{LinkClaims, LinkKeys, without_empty_query},
    },
    policy::{App, Parameters, Reason, SafePath, Site},
    store::{Added, LinkQuota, Store},
};

/// The maximum number of bytes of the maker's credential that are stored with a link: enough for a certificate and two above it, with large RSA keys.
const MAX_MAKER: usize = 8 << 10;
/// The maximum number of bytes of a link's target that are stored for the list.
const MAX_LISTED_TARGET: usize = 1_024;

/// A request for a link.
#[derive(Clone, Debug)]
pub struct LinkRequest {
    /// The application that it leads to.
    pub place: LinkPlace,
    /// The path, with the query if there is one.
    pub target: String,
    /// How long it is valid; `None` for the configured default.
    pub life: Option<Duration>,
    /// The user in whose name it acts.
    pub user: UserName,
    /// The id of that user; `None` for a user who is not on the list.
    pub owner: Option<UserId>,
    /// The identity of the maker, whose rights apply; `None` for a command on the machine itself.
    pub maker: Option<Arc<Identity>>,
    /// Scheme and authority for the URL.
    pub base: String,
}

/// Which application a link leads to.
#[derive(Clone, Debug)]
pub enum LinkPlace {
    /// The application of this name.
    App(String),
    /// The application that serves this host.
    Host(String),
}

/// A new link.
#[derive(Debug, Serialize)]
pub struct MadeLink {
    /// Its id, by which it can be revoked.
    pub id: String,
    /// The whole URL.
    pub url: String,
    /// When it expires.
    pub expires: Timestamp,
}

/// The text for a maker who may not create the link, whatever the cause.
const FORBIDDEN: &str = "you lack a scope that the link's route requires, or you may not create links for this user";

/// The reasons for refusing to create a link.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LinkRefusal {
    /// The target is ambiguous or malformed.
    #[error("the path is ambiguous or malformed, or its query contains a parameter that begins with `sp_`")]
    BadPath,
    /// No route accepts links there.
    #[error("this path does not accept signed links")]
    NoRoute,
    /// The lifetime is invalid.
    #[error(
        "expires must be a duration such as \"1h\", longer than zero and at most the configured `links.max_expiry`"
    )]
    BadLife,
    /// The user is not a valid name.
    #[error("user must be a valid user name")]
    BadUser,
    /// The maker is unknown.
    #[error("{FORBIDDEN}")]
    NoMaker,
    /// The maker's credential is no longer valid.
    #[error("{FORBIDDEN}")]
    MakerRevoked,
    /// The maker uses a link, which cannot create links.
    #[error("{FORBIDDEN}")]
    MakerIsLink,
    /// The maker lacks a scope that the link's route requires.
    #[error("{FORBIDDEN}")]
    MissingScope,
    /// The maker may not create links for that user.
    #[error("{FORBIDDEN}")]
    OtherUser,
    /// The maker's credential is too large to be stored with the link.
    #[error(
        "your credential is too large to be stored with a link; use an API key, or a client certificate with a shorter chain"
    )]
    LargeMaker,
    /// The number of links is at its limit.
    #[error("the limit on links is reached; revoke a link of this user, or wait until one expires")]
    TooMany,
    /// The link cannot be stored.
    #[error("the link cannot be stored")]
    Internal,
}

impl LinkRefusal {
    /// Returns the reason that the client is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::BadPath | Self::NoRoute | Self::BadLife | Self::BadUser | Self::LargeMaker => Reason::LinkRefused,
            Self::NoMaker | Self::MakerRevoked | Self::MakerIsLink | Self::MissingScope | Self::OtherUser => {
                Reason::Forbidden
            }
            Self::TooMany => Reason::TooManyLinks,
            Self::Internal => Reason::Internal,
        }
    }
}

impl LinkRequest {
    /// Creates the link at `now` (Unix seconds) and stores it in the list. It expires with the maker's credential, or earlier.
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
        let ends = self.maker.as_ref().and_then(|maker| maker.proof.expires()).unwrap_or(i64::MAX);
        let expires = now.saturating_add_unsigned(life.as_secs()).min(ends);
        let id = data_encoding::HEXLOWER.encode(&random::<8>());
        let user = self.user.as_str();
        let target = without_empty_query(&self.target);
        let signed = keys.sign(&LinkClaims { app: &app.name, target, user, expires, id: &id });
        let separator = if target.contains('?') { '&' } else { '?' };
        let url = format!("{}{target}{separator}{signed}", self.base);
        let record = self.record(app, id.clone(), now, expires)?;
        let quota = LinkQuota { per_user: config.links.max_per_user, in_all: config.links.max_in_all };
        match store.add_link(&record, quota) {
            Ok(Added::Kept) => {}
            Ok(Added::TooMany) => return Err(LinkRefusal::TooMany),
            Err(error) => {
                error!(%error, "cannot store a link");
                return Err(LinkRefusal::Internal);
            }
        }
        let expires = Timestamp::from_second(expires).map_err(|_| LinkRefusal::BadLife)?;
        Ok((MadeLink { id, url, expires }, record))
    }

    fn record(&self, app: &App, id: String, created: i64, expires: i64) -> Result<LinkRecord, LinkRefusal> {
        let maker = match &self.maker {
            Some(maker) => Some(maker.proof.to_record().ok_or(LinkRefusal::MakerIsLink)?),
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

    /// Returns the maker as the link book records it.
    pub(crate) fn made_with(&self) -> Maker {
        let holder = |maker: &Arc<Identity>| Maker::Holder(Arc::new(Proof::clone(&maker.proof)));
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
        // Without a maker, a command on this machine creates the link.
        if let Some(maker) = &self.maker {
            if !maker.scopes.contain_all(&route.scopes) {
                return Err(LinkRefusal::MissingScope);
            }
            if !maker.may_act_for(&self.user) {
                return Err(LinkRefusal::OtherUser);
            }
        }
        Ok(app)
    }
}

fn listed(target: &str) -> String {
    if target.len() <= MAX_LISTED_TARGET {
        return target.to_owned();
    }
    let end = (0..=MAX_LISTED_TARGET).rev().find(|end| target.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", target.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_that_forbids_a_link_is_answered_alike() {
        for refusal in [
            LinkRefusal::NoMaker,
            LinkRefusal::MakerRevoked,
            LinkRefusal::MakerIsLink,
            LinkRefusal::MissingScope,
            LinkRefusal::OtherUser,
        ] {
            assert_eq!((refusal.reason(), &*refusal.to_string()), (Reason::Forbidden, FORBIDDEN), "{refusal:?}");
        }
    }
}
