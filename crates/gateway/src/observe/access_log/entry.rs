//! One request as the access log sees it: what is written of it, how important it is and whose budget pays for it.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use sallyport_core::addresses::client_network;

use crate::observe::Verdict;

/// One request, as logged: with its path, but without the query, which can contain signatures.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// When the request arrived.
    pub ts: Timestamp,
    /// The request ID.
    pub request_id: &'a str,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The head of the request; None if it could not be parsed.
    pub asked: Option<LoggedRequest<'a>>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The application's name.
    pub app: Option<&'a str>,
    /// The user.
    pub user: Option<&'a str>,
    /// The kind of credential.
    pub credential: Option<&'a str>,
    /// The ID of the link that was used; it is not logged.
    pub link: Option<&'a str>,
    /// The gateway's verdict.
    pub decision: Verdict,
    /// The public code of a denial.
    pub code: Option<&'static str>,
    /// The status of the response; 499 if the client disconnected before there was one.
    pub status: u16,
    /// Bytes of body from the client.
    pub bytes_in: u64,
    /// Bytes of body to the client.
    pub bytes_out: u64,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// Until the head of the application's response; None if the application was not contacted.
    pub upstream: Option<Duration>,
    /// The TLS version.
    pub tls: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The host that the client named.
    pub host: &'a str,
    /// The path, as sent.
    pub path: &'a str,
    /// The HTTP version.
    pub http: &'a str,
}

/// The importance of a line when there is not enough space for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinePriority {
    /// A request of a user that was allowed.
    User,
    /// A line that an unauthenticated client can cause.
    Stranger,
}

/// The client whose budget a line is written from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BudgetOwner<'a> {
    /// A user who was allowed in by a credential of their own.
    User(&'a str),
    /// All clients that use one link. Links can be shared.
    Link(&'a str),
    /// A client that was allowed in without a credential, by network.
    Visitor(IpAddr),
    /// A client that was denied, by network.
    Denied(IpAddr),
}

impl Entry<'_> {
    pub(super) fn priority(&self) -> LinePriority {
        match self.decision {
            Verdict::Forward | Verdict::Own if self.user.is_some() => LinePriority::User,
            Verdict::Forward | Verdict::Own | Verdict::Deny | Verdict::Preflight => LinePriority::Stranger,
        }
    }

    pub(super) fn owner(&self) -> BudgetOwner<'_> {
        match (self.decision, self.link, self.user) {
            (Verdict::Forward | Verdict::Own, Some(id), _) => BudgetOwner::Link(id),
            (Verdict::Forward | Verdict::Own, None, Some(user)) => BudgetOwner::User(user),
            (Verdict::Forward | Verdict::Own, None, None) => BudgetOwner::Visitor(client_network(self.client_ip)),
            (Verdict::Deny | Verdict::Preflight, _, _) => BudgetOwner::Denied(client_network(self.client_ip)),
        }
    }
}
