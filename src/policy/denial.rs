//! Why a request is not forwarded: one table from reason to status, public code and words.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::{cors::CorsAnswer, site::App, steps::Steps};
use crate::{identity::Identity, limits::Exceeded};

/// A request that ends at the gateway.
#[derive(Debug)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// What the client may know beyond the reason's own words, such as the field of a body.
    pub detail: Option<String>,
    /// The rate that was exceeded.
    pub exceeded: Option<Exceeded>,
    /// The methods that the client may use on the path instead.
    pub allow: Option<HeaderValue>,
    /// The CORS headers of the answer.
    pub cors: CorsAnswer,
    /// The application, as far as that was found.
    pub app: Option<Arc<App>>,
    /// The form of the answer's body.
    pub style: ErrorStyle,
    /// Whether it refuses a credential that may be a guess.
    pub guess: Guess,
    /// To whom it offers Basic where it asks for a credential.
    pub basic: BasicChallenge,
    /// Who asks, as far as that was found.
    pub identity: Option<Arc<Identity>>,
    /// How it came to this.
    pub steps: Steps,
}

/// Whether somebody may be guessing at a credential. Only a forgery is a guess; what has expired, is not good yet or was changed
/// on its way to an honest client is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guess {
    /// Nobody is.
    #[default]
    No,
    /// Somebody may be.
    Yes,
}

impl Denial {
    /// A denial of which nothing else is known.
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
            steps: Steps::new(),
        }
    }

    /// The same in the words of an application, for a request that seems to be for it.
    #[must_use]
    pub fn of(reason: Reason, app: Option<&Arc<App>>, headers: &HeaderMap) -> Self {
        let Some(app) = app else { return Self::bare(reason) };
        let cors = app.cors.answer_without_route(headers);
        Self { cors, app: Some(Arc::clone(app)), style: app.style, ..Self::bare(reason) }
    }
}

/// The form of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorStyle {
    /// RFC 9457.
    #[default]
    Problem,
    /// `{"detail":"…"}`, as FastAPI's front ends expect.
    Fastapi,
}

/// Whom 401 offers Basic, beside Bearer, which every 401 offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BasicChallenge {
    /// Programs such as curl, wget and players, many of which send a password only once they are asked for one. A browser's pages
    /// and scripts, which say so by `Sec-Fetch-Mode` (Fetch Metadata, section 2.2), would have the browser ask the person.
    #[default]
    Programs,
    /// Everybody.
    Always,
    /// Nobody.
    Never,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $detail:literal;)*) => {
        /// Why a request is not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason there is, for documents and tests.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The status of the answer.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The stable public code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the client is told.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail,)* }
            }
        }
    };
}

reasons! {
    /// The path or query could mean two things.
    BadPath = 400 "bad_path" "The path cannot be judged without doubt";
    /// The head or the framing of the body could mean two things.
    BadFraming = 400 "bad_framing" "The request's framing cannot be judged without doubt";
    /// `Host` is missing, repeated or garbled.
    BadHost = 400 "bad_host" "The Host header cannot be judged";
    /// The connection was made for another host.
    Misdirected = 421 "misdirected" "This connection is for another host; use one of its own";
    /// More than one explicit credential.
    TwoCredentials = 400 "two_credentials" "More than one credential was sent; send one";
    /// The body is not what the route takes.
    BadBody = 400 "bad_body" "The body is not the JSON that this route takes";
    /// A value in the body is refused.
    RefusedValue = 422 "refused_value" "A value in the body is not accepted";
    /// No credential.
    NotAuthenticated = 401 "not_authenticated" "Not authenticated";
    /// A credential that proves nothing.
    BadCredential = 401 "bad_credential" "The credential is not valid";
    /// A credential that has expired.
    ExpiredCredential = 401 "expired_credential" "The credential has expired";
    /// A token or certificate whose user is not known, or was removed.
    UnknownUser = 401 "unknown_user" "The credential is for nobody who is known here";
    /// A kind of credential that the route does not take.
    CredentialNotAccepted = 403 "credential_not_accepted" "This route does not take this kind of credential";
    /// A link whose signature is wrong.
    BadLink = 403 "bad_link" "The link is not valid";
    /// The credential's scopes do not suffice.
    InsufficientScope = 403 "insufficient_scope" "The credential is not good for this";
    /// An address that may not use the route, or the application.
    AddressDenied = 403 "address_denied" "Requests from this address are not allowed";
    /// An address that is shut out for what it did.
    Banned = 403 "banned" "Requests from this address are refused for now";
    /// A foreign origin where it could do harm.
    ForeignOrigin = 403 "foreign_origin" "Requests from this origin are not allowed";
    /// Not allowed to this user.
    Forbidden = 403 "forbidden" "Not allowed";
    /// A link that cannot be made.
    LinkRefused = 422 "link_refused" "The link cannot be made";
    /// No such route.
    NoRoute = 404 "no_route" "Not found";
    /// A method that the path's routes do not take, from a client that may use one of them.
    MethodNotAllowed = 405 "method_not_allowed" "Method not allowed";
    /// A method that no route can have.
    UnknownMethod = 501 "unknown_method" "This method is not implemented";
    /// A link that has expired or was taken back.
    ExpiredLink = 410 "expired_link" "The link has expired";
    /// Too large a body.
    BodyTooLarge = 413 "body_too_large" "The body is too large";
    /// Too slow a body.
    BodyTooSlow = 408 "body_too_slow" "The body did not arrive in time";
    /// Too long a target.
    TargetTooLong = 414 "target_too_long" "The URL is too long";
    /// Too large a head, or too many fields in it.
    HeadTooLarge = 431 "head_too_large" "The request's head is too large";
    /// Too slow a head.
    HeadTooSlow = 408 "head_too_slow" "The request's head did not arrive in time";
    /// A user has as many links as they may.
    TooManyLinks = 429 "too_many_links" "There are too many links; revoke one, or wait until one expires";
    /// A rate was exceeded.
    RateLimited = 429 "rate_limited" "Too many requests";
    /// The gateway itself failed; whoever cannot decide denies.
    Internal = 500 "internal" "The gateway failed";
    /// The application refused the connection, or broke it.
    UpstreamUnreachable = 502 "upstream_unreachable" "The application cannot be reached";
    /// There is more on its way than the gateway can hold.
    Overloaded = 503 "overloaded" "The gateway has too much to do";
    /// The application is too slow.
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
