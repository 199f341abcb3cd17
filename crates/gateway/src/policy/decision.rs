//! The outcome of judging a request, including requests whose body has yet to be judged.

use std::sync::Arc;

use http::{HeaderMap, header};

use super::{cors::PreflightResponse, denial::Denial, permit::Permit, reason::Reason, trace::Step};
use crate::identity::Identity;

/// The outcome of judging a request.
#[derive(Debug)]
pub enum Decision {
    /// Forward the request.
    Forward(Permit),
    /// Forward the request if its body passes.
    Judge(PendingBody),
    /// Answer the CORS preflight.
    Preflight(PreflightResponse),
    /// Deny the request.
    Respond(Denial),
}

/// A request that has passed every check except the one on its body.
#[derive(Debug)]
pub struct PendingBody(pub(super) Permit);

impl Decision {
    /// Returns the authenticated identity, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Forward(permit) | Self::Judge(PendingBody(permit)) => permit.identity(),
            Self::Respond(denial) => denial.identity.as_ref(),
            Self::Preflight(_) => None,
        }
    }
}

impl PendingBody {
    /// Returns the largest body that the route accepts, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.0.route.max_body
    }

    /// Judges a complete body.
    ///
    /// # Errors
    /// The body does not follow the route's rule.
    #[expect(clippy::result_large_err, reason = "the Ok variant, a permit, is no smaller")]
    pub fn judge(self, headers: &HeaderMap, body: &[u8]) -> Result<Permit, Denial> {
        let Self(mut permit) = self;
        let Some(rule) = &permit.route.body else { return Ok(permit) };
        if !is_json(headers) {
            let detail = "send it with Content-Type: application/json".to_owned();
            return Err(denied(permit, Reason::BadBody, Some(detail)));
        }
        match rule.judge(body) {
            Ok(body) => {
                permit.body = Some(body);
                permit.steps.push(Step::Body);
                Ok(permit)
            }
            Err(fault) => {
                let reason = if fault.is_unreadable() { Reason::BadBody } else { Reason::RefusedValue };
                Err(denied(permit, reason, Some(fault.to_string())))
            }
        }
    }

    /// Denies the request for another reason, such as a body that is too large or too slow.
    #[must_use]
    pub fn deny(self, reason: Reason) -> Denial {
        denied(self.0, reason, None)
    }
}

impl Permit {
    /// Turns the permit into a denial, for example when the upstream fails.
    #[must_use]
    pub fn revoke(self, reason: Reason) -> Denial {
        denied(self, reason, None)
    }
}

fn denied(permit: Permit, reason: Reason, detail: Option<String>) -> Denial {
    let Permit { app, cors, identity, mut steps, .. } = permit;
    steps.push(Step::Denied(reason));
    Denial { detail, cors, style: app.style, app: Some(app), identity, steps, ..Denial::bare(reason) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).and_then(|v| v.split(';').next());
    essence.is_some_and(|e| e.trim().eq_ignore_ascii_case("application/json"))
}
