//! Why a request is not forwarded: one table gives each reason its status, public code and message.

use http::StatusCode;

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
