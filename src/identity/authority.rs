//! The one that says who a credential belongs to: a snapshot of keys, users and links, and the verifiers.
//!
//! A credential is first recognised, which needs its text, and then judged, which needs only what it was recognised as. So
//! the same judgement lets a request in and decides, for as long as its answer runs, whether it may go on.

use std::sync::Arc;

use super::{
    ClientAuthorities, ClientCertificate, Credential, Grant, Identity, KeyTable, LinkBook, MadeFor, Maker, People,
    Scopes, Standing, User, UserId,
    jwt::{Issuer, JwtVerifier, TokenError, TokenGrant},
    link::{LinkError, LinkGrant, LinkKeys},
    offlinetube::{OfflineTubeGrant, OfflineTubeKey},
};
use crate::username::UserName;

/// Everything that verifies credentials; replaced as a whole when state changes.
pub struct Authority {
    /// API keys.
    pub keys: KeyTable,
    /// Everybody who was added, and what they are.
    pub people: People,
    /// Tokens.
    pub jwt: Arc<JwtVerifier>,
    /// What signs links.
    pub links: Arc<LinkKeys>,
    /// The links that were made.
    pub made_links: Arc<LinkBook>,
    /// Links in OfflineTube's style.
    pub offlinetube: Arc<OfflineTubeKey>,
    /// Who vouches for client certificates; None: nobody.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
}

/// Why a credential that is present is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It proves nothing, and may be a guess.
    Invalid,
    /// It is genuine, and of no use here: not good yet, meant for others, without what it must say.
    Unusable,
    /// It was right once; for tokens, keys and certificates.
    Expired,
    /// Its user is not known, or no longer.
    UnknownUser,
    /// A link whose signature is wrong, and may be a guess.
    LinkForged,
    /// A link that others have added to on its way, or that was signed by a key that is gone.
    LinkAltered,
    /// A link that was right once.
    LinkExpired,
}

/// Who holds a credential, and what they may do with it.
struct Who {
    user: UserName,
    generation: Option<UserId>,
    admin: bool,
    scopes: Scopes,
}

impl Authority {
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
        let grant = self.recognise(credential, app, path, object)?;
        let identity = self.judge(&grant, now)?;
        if let Grant::ApiKey(key) = &grant {
            self.keys.touch(key, now);
        }
        Ok(identity)
    }

    /// Whether a request that was let in earlier would be let in now, as the same user who may do the same.
    #[must_use]
    pub fn is_still_valid(&self, identity: &Identity, now: i64) -> bool {
        self.judge(&identity.grant, now).is_ok_and(|found| found.is_as_good_as(identity))
    }

    /// The identity as it is kept with a link: of what a client has shown beside its certificate, nothing stays that the certificate
    /// does not need. None where that is not found among so many.
    #[must_use]
    pub fn to_be_kept(&self, identity: Arc<Identity>, now: i64) -> Option<Arc<Identity>> {
        let Grant::ClientCertificate(shown) = &identity.grant else { return Some(identity) };
        let needed = self.client_authorities.as_ref()?.needed(shown, now)?;
        Some(Arc::new(Identity { grant: Grant::ClientCertificate(Arc::new(needed)), ..Identity::clone(&identity) }))
    }

    /// What a credential is, by its text alone: nothing that may change is looked at.
    fn recognise(
        &self,
        credential: &Credential<'_>,
        app: &str,
        path: &str,
        object: Option<&str>,
    ) -> Result<Grant, Refusal> {
        Ok(match credential {
            Credential::ApiKey(text) => Grant::ApiKey(self.keys.recognise(text)?),
            Credential::Jwt(token) => Grant::Jwt(Box::new(self.jwt.recognise(token)?)),
            Credential::Link(link) => Grant::Link(self.links.recognise(app, path, link)?),
            Credential::OfflineTubeLink(link) => {
                let object = object.ok_or(Refusal::LinkForged)?;
                Grant::OfflinetubeLink(self.offlinetube.recognise(object, link)?)
            }
            Credential::ClientCertificate(certificate) => Grant::ClientCertificate(Arc::clone(certificate)),
        })
    }

    /// Who holds what was recognised at some time, if it holds at `now` (Unix seconds).
    ///
    /// # Errors
    /// It has expired, it was taken back, or the key, authority or user behind it is gone.
    pub fn judge(&self, grant: &Grant, now: i64) -> Result<Arc<Identity>, Refusal> {
        let who = match grant {
            // Kept for every key, so that a request by one makes nothing anew.
            Grant::ApiKey(key) => return self.keys.judge(key, now),
            Grant::Jwt(token) => self.judge_token(token, now)?,
            Grant::Link(link) => self.judge_link(link, now)?,
            Grant::OfflinetubeLink(link) => self.judge_offlinetube_link(link, now)?,
            Grant::ClientCertificate(certificate) => self.judge_certificate(certificate, now)?,
        };
        let Who { user, generation, admin, scopes } = who;
        Ok(Arc::new(Identity { user, generation, admin, scopes, grant: grant.clone() }))
    }

    fn judge_token(&self, token: &TokenGrant, now: i64) -> Result<Who, Refusal> {
        self.jwt.judge(token, now)?;
        let user = self.people.meant(&token.user, MadeFor { id: token.id, at: token.issued() })?;
        // A foreign issuer vouches for names, but nobody becomes an administrator by its word.
        let is_admin = token.issuer == Issuer::Own && user.is_some_and(|user| user.standing == Standing::Admin);
        Ok(Who {
            user: token.user.clone(),
            generation: user.and_then(User::generation),
            admin: is_admin && token.scopes.contains("admin"),
            scopes: token.scopes.clone(),
        })
    }

    /// A link holds as long as what it was made with.
    fn judge_link(&self, link: &LinkGrant, now: i64) -> Result<Who, Refusal> {
        self.links.judge(link, now)?;
        let made = self.made_links.get(&link.id).ok_or(Refusal::LinkExpired)?;
        let user = self.people.meant(&link.user, MadeFor { id: made.owner, at: None });
        let user = user.map_err(|_| Refusal::LinkExpired)?;
        match &made.maker {
            Maker::Machine => {}
            Maker::Holder(grant) => {
                let maker = self.judge(grant, now).map_err(|_| Refusal::LinkExpired)?;
                if maker.user != link.user && !maker.admin {
                    return Err(Refusal::LinkExpired);
                }
            }
        }
        Ok(bearer_of(&link.user, user))
    }

    fn judge_offlinetube_link(&self, link: &OfflineTubeGrant, now: i64) -> Result<Who, Refusal> {
        self.offlinetube.judge(link, now)?;
        let made = MadeFor { id: None, at: Some(self.offlinetube.made_after()) };
        let user = self.people.meant(&link.user, made).map_err(|_| Refusal::LinkExpired)?;
        Ok(bearer_of(&link.user, user))
    }

    /// A certificate is its user's own, so it may do whatever that user may.
    fn judge_certificate(&self, shown: &ClientCertificate, now: i64) -> Result<Who, Refusal> {
        let name = self.client_authorities.as_ref().ok_or(Refusal::Invalid)?.user(shown, now)?;
        let user = self.people.meant(&name, shown.made_for())?.ok_or(Refusal::UnknownUser)?;
        Ok(Who {
            admin: user.standing == Standing::Admin,
            generation: user.generation(),
            user: name,
            scopes: Scopes::All,
        })
    }
}

/// A link opens its one target for its user, and stands for no scope: the route decides that it takes links at all.
fn bearer_of(name: &UserName, user: Option<&User>) -> Who {
    Who { user: name.clone(), generation: user.and_then(User::generation), admin: false, scopes: Scopes::All }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => Self::Expired,
            TokenError::Invalid => Self::Invalid,
            TokenError::Early | TokenError::Unusable => Self::Unusable,
        }
    }
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Forged => Self::LinkForged,
            LinkError::Altered => Self::LinkAltered,
            LinkError::Expired => Self::LinkExpired,
        }
    }
}
