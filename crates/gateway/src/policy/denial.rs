//! Denials: requests that end at the gateway, with everything that their responses need.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::{
    cors::CorsHeaders,
    error_style::{BasicChallenge, ErrorStyle},
    reason::Reason,
    site::App,
    trace::Trace,
};
use crate::{identity::Identity, limits::Exceeded};

/// A request that ends at the gateway.
#[derive(Debug)]
pub struct Denial {
    /// The reason.
    pub reason: Reason,
    /// What the client is told beyond the reason's message, such as which field of a body is wrong.
    pub detail: Option<String>,
    /// The rate that was exceeded.
    pub exceeded: Option<Exceeded>,
    /// The methods that the client may use on this path.
    pub allow: Option<HeaderValue>,
    /// The CORS headers of the response.
    pub cors: CorsHeaders,
    /// The application, if it was determined.
    pub app: Option<Arc<App>>,
    /// The format of the response body.
    pub style: ErrorStyle,
    /// Whether the refused credential may be a guess.
    pub guess: Guess,
    /// Which clients are offered Basic authentication, if this denial asks for a credential.
    pub basic: BasicChallenge,
    /// The authenticated identity, if there is one.
    pub identity: Option<Arc<Identity>>,
    /// The steps that led to the denial.
    pub steps: Trace,
}

/// Whether the client may be guessing a credential. Only a forgery is a guess; a credential that has expired, is not valid yet or was
/// altered on its way to an honest client is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guess {
    /// It is not a guess.
    #[default]
    No,
    /// It may be a guess.
    Yes,
}

impl Denial {
    /// Creates a denial with a reason and nothing else.
    #[must_use]
    pub fn bare(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
            exceeded: None,
            allow: None,
            cors: CorsHeaders::None,
            app: None,
            style: ErrorStyle::default(),
            guess: Guess::No,
            basic: BasicChallenge::Never,
            identity: None,
            steps: Trace::new(),
        }
    }

    /// Creates a denial with the error format and CORS headers of `app`, for a request that appears to be for that application.
    #[must_use]
    pub fn of(reason: Reason, app: Option<&Arc<App>>, headers: &HeaderMap) -> Self {
        let Some(app) = app else { return Self::bare(reason) };
        let cors = app.cors.headers_without_route(headers);
        Self { cors, app: Some(Arc::clone(app)), style: app.style, ..Self::bare(reason) }
    }
}
