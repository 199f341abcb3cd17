//! Denials: why a request is not forwarded, with one table that gives each reason its status, public code and message.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::{cors::CorsAnswer, site::App, trace::Trace};
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
    pub cors: CorsAnswer,
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
            cors: CorsAnswer::None,
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
        let cors = app.cors.answer_without_route(headers);
        Self { cors, app: Some(Arc::clone(app)), style: app.style, ..Self::bare(reason) }
    }
}

/// The format of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorStyle {
    /// RFC 9457.
    #[default]
    Problem,
    /// `{"detail":"…"}`, as FastAPI's front ends expect.
    Fastapi,
}

/// Which clients a 401 offers Basic authentication, in addition to Bearer, which every 401 offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BasicChallenge {
    /// Programs such as curl, wget and media players, many of which send a password only after a challenge. Pages and scripts in a
    /// browser, recognised by `Sec-Fetch-Mode` (Fetch Metadata, section 2.2), are excluded because the browser would prompt the user.
    #[default]
    Programs,
    /// All clients.
    Always,
    /// No client.
    Never,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $detail:literal;)*) => {
        /// Why a request is not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, for documentation and tests.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the status of the response.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Returns the stable public code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the message for the client.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail,)* }
            }
        }
    };
}

reasons! {
    /// The path or query is malformed or ambiguous.
    BadPath = 400 "bad_path" "The path or query is malformed or ambiguous (such as an encoded separator, a dot segment or an invalid escape)";
    /// The head or the framing of the body is malformed or ambiguous.
    BadFraming = 400 "bad_framing" "The request is malformed (invalid header, Content-Length, Transfer-Encoding or chunk)";
    /// `Host` is missing, repeated or malformed.
    BadHost = 400 "bad_host" "The Host header is missing, repeated or malformed";
    /// The connection was made for a different host.
    Misdirected = 421 "misdirected" "This connection was made for a different host name; open a new connection";
    /// The request carries more than one explicit credential.
    TwoCredentials = 400 "two_credentials" "More than one credential was sent; send one";
    /// The body is not a JSON object that can be read.
    BadBody = 400 "bad_body" "The body is not the JSON object that this route expects";
    /// A field of the body is missing, unknown or invalid.
    RefusedValue = 422 "refused_value" "A field of the body is missing, unknown or invalid";
    /// The request carries no credential.
    NotAuthenticated = 401 "not_authenticated" "Not authenticated";
    /// The credential does not verify or can no longer be used.
    BadCredential = 401 "bad_credential" "The credential is not valid";
    /// The credential has expired.
    ExpiredCredential = 401 "expired_credential" "The credential has expired; use a new one";
    /// The user of a token or certificate is unknown or was removed.
    UnknownUser = 401 "unknown_user" "The credential does not match any user";
    /// The route does not accept this kind of credential.
    CredentialNotAccepted = 403 "credential_not_accepted" "This route does not accept this kind of credential";
    /// The signature of a link is wrong, or its query cannot be read.
    BadLink = 403 "bad_link" "The link is not valid; it may have been cut off or altered";
    /// The credential lacks a required scope.
    InsufficientScope = 403 "insufficient_scope" "The credential lacks a scope that this route requires";
    /// The client's address may not use the route or the application.
    AddressDenied = 403 "address_denied" "Requests from your address are not allowed";
    /// The client's address is banned for its earlier requests.
    Banned = 403 "banned" "Your address is banned";
    /// A foreign origin made a request that could do harm.
    ForeignOrigin = 403 "foreign_origin" "Requests from this origin are not allowed";
    /// This user is not allowed to do this.
    Forbidden = 403 "forbidden" "Not allowed";
    /// The requested link cannot be created.
    LinkRefused = 422 "link_refused" "The link cannot be created";
    /// No route matches.
    NoRoute = 404 "no_route" "Not found";
    /// No route of the path accepts the method, and the client may use at least one of them.
    MethodNotAllowed = 405 "method_not_allowed" "Method not allowed";
    /// No route can have this method.
    UnknownMethod = 501 "unknown_method" "This method is not implemented";
    /// The link has expired or was revoked.
    ExpiredLink = 410 "expired_link" "The link has expired or was revoked";
    /// The body is too large.
    BodyTooLarge = 413 "body_too_large" "The body is too large";
    /// The body arrived too slowly.
    BodyTooSlow = 408 "body_too_slow" "The body did not arrive in time";
    /// The request target is too long.
    TargetTooLong = 414 "target_too_long" "The URL is too long";
    /// The head is too large or has too many fields.
    HeadTooLarge = 431 "head_too_large" "The request headers are too large";
    /// The head arrived too slowly.
    HeadTooSlow = 408 "head_too_slow" "The request headers did not arrive in time";
    /// There are as many links as are allowed.
    TooManyLinks = 429 "too_many_links" "There are too many links; revoke one, or wait until one expires";
    /// A rate was exceeded.
    RateLimited = 429 "rate_limited" "Too many requests";
    /// The gateway itself failed; a request that it cannot decide is denied.
    Internal = 500 "internal" "Internal error in the gateway";
    /// The application refused or broke the connection.
    UpstreamUnreachable = 502 "upstream_unreachable" "The application cannot be reached";
    /// The gateway has no capacity for another request.
    Overloaded = 503 "overloaded" "The gateway is overloaded; try again later";
    /// The application took too long.
    UpstreamTimeout = 504 "upstream_timeout" "The application did not answer in time";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_error_status_and_a_code_of_its_own() {
        let codes: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|r| r.status().is_client_error() || r.status().is_server_error()));
    }
}
