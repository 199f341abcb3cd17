//! The step that finds out who sends a request: reads its credential, verifies it, and checks that it extends to the route.

use std::sync::Arc;

use http::Method;

use super::{fault::Fault, judgement::Judgement};
use crate::{
    identity::{Credential, CredentialKind, Identity, presented},
    policy::{App, Reason, RequestFacts, Route, Step, permit::QueryRewrite, route::Matched},
};

/// What a judgement knows after this step.
#[derive(Default)]
pub(super) struct Known {
    /// `None` if the request is anonymous.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) query: QueryRewrite,
    /// The query of a link to the route's `link_also` object.
    pub(super) link: Option<String>,
}

impl Judgement<'_> {
    pub(super) fn authenticate(&mut self, app: &App, route: &Route, matched: &Matched<'_, '_>) -> Result<Known, Fault> {
        let facts = self.facts;
        let explicit = presented(facts.headers, facts.query, route.reads())?;
        let Some(credential) = explicit.or_else(|| certificate(route, facts)) else {
            self.steps.push(Step::Anonymous);
            return if route.anonymous { Ok(Known::default()) } else { Err(Reason::NotAuthenticated.into()) };
        };
        let kind = credential.kind();
        self.steps.push(Step::Presented(kind));
        if kind.is_sent_unasked() {
            self.unasked()?;
        }
        let object = route.link_object.as_deref().and_then(|name| matched.parameter(name));
        let identity = self.authenticator.verify(&credential, &app.name, facts.path, object, self.now)?;
        self.steps.push(Step::Authenticated);
        self.identity = Some(Arc::clone(&identity));
        // Authenticated clients may use anonymous routes as well.
        if !route.credentials.contains(kind) && !route.anonymous {
            return Err(Reason::CredentialNotAccepted.into());
        }
        let link = self.link_also(app, route, &credential);
        let query = self.query_without(credential, app)?;
        judge_extent(kind, &identity, route, facts.method)?;
        self.steps.push(Step::Scopes);
        Ok(Known { identity: Some(identity), query, link })
    }

    /// Returns the query of a link to the route's `link_also` object in the folder of the path, derived from the verified link
    /// `credential`.
    fn link_also(&self, app: &App, route: &Route, credential: &Credential<'_>) -> Option<String> {
        let link = match credential {
            Credential::Link(link) => link,
            Credential::ApiKey(_)
            | Credential::Jwt(_)
            | Credential::OfflineTubeLink(_)
            | Credential::ClientCertificate(_) => return None,
        };
        let name = route.link_also.as_deref()?;
        let (folder, _) = self.facts.path.rsplit_once('/')?;
        self.authenticator.links.extend(&app.name, link, &format!("{folder}/{name}"))
    }

    /// Returns how the query is rewritten, so that the application does not see the verified credential.
    fn query_without(&self, credential: Credential<'_>, app: &App) -> Result<QueryRewrite, Fault> {
        Ok(match credential {
            Credential::ApiKey(_) | Credential::Jwt(_) | Credential::ClientCertificate(_) => QueryRewrite::Keep,
            // The query as signed, without the parameters that others added.
            Credential::Link(link) => {
                let signed = self.authenticator.links.signed_query(&app.name, self.facts.path, &link);
                QueryRewrite::Only(signed.map_err(|_| Reason::Internal)?)
            }
            Credential::OfflineTubeLink(link) => QueryRewrite::Only(link.rest),
        })
    }
}

/// Returns the connection's certificate if the route accepts one. Other routes ignore it, because the client presents it once per
/// connection, whatever the request.
fn certificate<'f>(route: &Route, facts: &RequestFacts<'f>) -> Option<Credential<'f>> {
    let taken = route.credentials.contains(CredentialKind::ClientCertificate);
    facts.certificate.filter(|_| taken).map(Credential::ClientCertificate)
}

/// Checks that a credential extends to the request: a link only reads, and any other needs the scopes of the route.
fn judge_extent(kind: CredentialKind, identity: &Identity, route: &Route, method: &Method) -> Result<(), Reason> {
    if kind.is_link() {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        return if reads { Ok(()) } else { Err(Reason::CredentialNotAccepted) };
    }
    if identity.scopes.contain_all(&route.scopes) { Ok(()) } else { Err(Reason::InsufficientScope) }
}
