//! Decides who a credential belongs to, with a snapshot of keys, users and links, and the verifiers.
//!
//! A credential is first recognised, which needs its text, and then judged, which needs only the recognised proof. The same judgement
//! therefore admits a request and decides, while its response is sent, whether it may continue.

use std::sync::Arc;

use sallyport_core::names::{role::Role, username::UserName};

use super::{
    ClientAuthorities, ClientCertificate, Credential, Identity, KeyTable, LinkBook, MadeFor, Maker, People, Proof,
    Rejection, Scopes, User, UserId,
    jwt::{Issuer, JwtVerifier, TokenError, TokenGrant},
    link::{LinkError, LinkGrant, LinkKeys},
    offlinetube::{OfflineTubeGrant, OfflineTubeKey},
};

/// Everything that verifies credentials; replaced as a whole when state changes.
pub struct Authenticator {
    /// API keys.
    pub keys: KeyTable,
    /// The users.
    pub people: People,
    /// The verifier of tokens.
    pub jwt: Arc<JwtVerifier>,
    /// The keys that sign links.
    pub links: Arc<LinkKeys>,
    /// The links that were created.
    pub made_links: Arc<LinkBook>,
    /// The key for links in OfflineTube's format.
    pub offlinetube: Arc<OfflineTubeKey>,
    /// The authorities for client certificates; without any, no certificate is accepted.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
}

/// The holder of a credential, and what they may do with it.
struct Who {
    user: UserName,
    generation: Option<UserId>,
    role: Role,
    scopes: Scopes,
}

impl Authenticator {
    /// Verifies a presented credential for a request to `path` of `app`. `object` is the value of the route parameter that OfflineTube's
    /// links sign.
    pub fn verify(
        &self,
        credential: &Credential<'_>,
        app: &str,
        path: &str,
        object: Option<&str>,
        now: i64,
    ) -> Result<Arc<Identity>, Rejection> {
        let proof = self.recognise(credential, app, path, object)?;
        let identity = self.judge(&proof, now)?;
        match &proof {
            Proof::ApiKey(key) => self.keys.touch(key, now),
            Proof::Jwt(_) | Proof::Link(_) | Proof::OfflineTubeLink(_) | Proof::ClientCertificate(_) => {}
        }
        Ok(identity)
    }

    /// Returns true if a request that was admitted earlier would be admitted now, as the same user with the same permissions.
    #[must_use]
    pub fn is_still_valid(&self, identity: &Identity, now: i64) -> bool {
        self.judge(&identity.proof, now).is_ok_and(|found| found.is_as_good_as(identity))
    }

    /// Returns the identity to store with a link. Of the chain that a client has sent with its certificate, only the certificates that are
    /// needed are kept. `None` if the chain is too long to find them.
    #[must_use]
    pub fn to_be_kept(&self, identity: Arc<Identity>, now: i64) -> Option<Arc<Identity>> {
        let proof = match &identity.proof {
            Proof::ClientCertificate(shown) => {
                Proof::ClientCertificate(Arc::new(self.client_authorities.as_ref()?.needed(shown, now)?))
            }
            Proof::ApiKey(_) | Proof::Jwt(_) | Proof::Link(_) | Proof::OfflineTubeLink(_) => return Some(identity),
        };
        Some(Arc::new(Identity { proof, ..Identity::clone(&identity) }))
    }

    /// Recognises a credential by its text alone, without any state that expires.
    fn recognise(
        &self,
        credential: &Credential<'_>,
        app: &str,
        path: &str,
        object: Option<&str>,
    ) -> Result<Proof, Rejection> {
        Ok(match credential {
            Credential::ApiKey(text) => Proof::ApiKey(self.keys.recognise(text)?),
            Credential::Jwt(token) => Proof::Jwt(Box::new(self.jwt.recognise(token)?)),
            Credential::Link(link) => Proof::Link(self.links.recognise(app, path, link)?),
            Credential::OfflineTubeLink(link) => {
                let object = object.ok_or(Rejection::LinkForged)?;
                Proof::OfflineTubeLink(self.offlinetube.recognise(object, link)?)
            }
            Credential::ClientCertificate(certificate) => Proof::ClientCertificate(Arc::clone(certificate)),
        })
    }

    /// Returns the identity behind a recognised credential, if it is valid at `now` (Unix seconds).
    ///
    /// # Errors
    /// The credential has expired or was revoked, or its key, authority or user was removed.
    pub fn judge(&self, proof: &Proof, now: i64) -> Result<Arc<Identity>, Rejection> {
        let who = match proof {
            // Each key stores its identity, so that a request does not allocate a new one.
            Proof::ApiKey(key) => return self.keys.judge(key, now),
            Proof::Jwt(token) => self.judge_token(token, now)?,
            Proof::Link(link) => self.judge_link(link, now)?,
            Proof::OfflineTubeLink(link) => self.judge_offlinetube_link(link, now)?,
            Proof::ClientCertificate(certificate) => self.judge_certificate(certificate, now)?,
        };
        let Who { user, generation, role, scopes } = who;
        Ok(Arc::new(Identity { user, generation, role, scopes, proof: proof.clone() }))
    }

    fn judge_token(&self, token: &TokenGrant, now: i64) -> Result<Who, Rejection> {
        self.jwt.judge(token, now)?;
        let user = self.people.meant(&token.user, MadeFor { id: token.id, at: token.issued() })?;
        // A foreign issuer can vouch for user names, but cannot make anyone an administrator.
        let role = match token.issuer {
            Issuer::Own => user.map_or(Role::User, |user| user.role),
            Issuer::Foreign => Role::User,
        };
        Ok(Who {
            user: token.user.clone(),
            generation: user.and_then(User::generation),
            role: token.scopes.limit(role),
            scopes: token.scopes.clone(),
        })
    }

    /// Judges a link, which is valid only as long as the credential that it was created with.
    fn judge_link(&self, link: &LinkGrant, now: i64) -> Result<Who, Rejection> {
        self.links.judge(link, now)?;
        let made = self.made_links.get(&link.id).ok_or(Rejection::LinkExpired)?;
        let user = self.people.meant(&link.user, MadeFor { id: made.owner, at: None });
        let user = user.map_err(|_| Rejection::LinkExpired)?;
        match &made.maker {
            Maker::Machine => {}
            Maker::Holder(proof) => {
                let maker = self.judge(proof, now).map_err(|_| Rejection::LinkExpired)?;
                if !maker.may_act_for(&link.user) {
                    return Err(Rejection::LinkExpired);
                }
            }
        }
        Ok(bearer_of(&link.user, user))
    }

    fn judge_offlinetube_link(&self, link: &OfflineTubeGrant, now: i64) -> Result<Who, Rejection> {
        self.offlinetube.judge(link, now)?;
        let made = MadeFor { id: None, at: Some(self.offlinetube.made_after()) };
        let user = self.people.meant(&link.user, made).map_err(|_| Rejection::LinkExpired)?;
        Ok(bearer_of(&link.user, user))
    }

    /// Judges a certificate, which belongs to its user and therefore may do everything that the user may.
    fn judge_certificate(&self, shown: &ClientCertificate, now: i64) -> Result<Who, Rejection> {
        let name = self.client_authorities.as_ref().ok_or(Rejection::Unusable)?.user(shown, now)?;
        let user = self.people.meant(&name, shown.made_for())?.ok_or(Rejection::UnknownUser)?;
        Ok(Who { role: user.role, generation: user.generation(), user: name, scopes: Scopes::All })
    }
}

/// Returns the holder of a link. A link opens one target in the name of its user and needs no scope; the route decides whether it
/// accepts links.
fn bearer_of(name: &UserName, user: Option<&User>) -> Who {
    Who { user: name.clone(), generation: user.and_then(User::generation), role: Role::User, scopes: Scopes::All }
}

impl From<TokenError> for Rejection {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => Self::Expired,
            TokenError::Invalid => Self::Invalid,
            TokenError::Early | TokenError::Unusable => Self::Unusable,
        }
    }
}

impl From<LinkError> for Rejection {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Forged => Self::LinkForged,
            LinkError::Altered => Self::LinkAltered,
            LinkError::Expired => Self::LinkExpired,
        }
    }
}
