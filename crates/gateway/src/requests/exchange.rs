//! The state of one request in progress, and its line in the access log at the end, however it ends.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{StatusCode, header};
use jiff::Timestamp;
use sallyport_core::http1::RequestHead;

use crate::{
    edge::ServedName,
    identity::{ClientCertificate, Identity},
    observe::{
        RequestId, Verdict,
        access_log::{Entry, LoggedRequest},
        metrics::Ended,
    },
    policy::{Addressing, Denial, Permit, Reason, Step, Target, Trace, host_name},
    state::GatewayState,
};

/// The client at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The address of its socket, or the address in a trusted proxy's PROXY header.
    pub(crate) ip: IpAddr,
    /// The version of TLS in use.
    pub(crate) tls: Option<&'static str>,
    /// The server name of the TLS handshake; `None` if the handshake says nothing about the requests.
    pub(crate) name: Option<Arc<ServedName>>,
    /// The client certificate of the handshake; `None` if the handshake says nothing about the requests.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
}

/// One request, from its head to the end of its response.
pub(crate) struct Exchange {
    pub(crate) id: RequestId,
    pub(crate) client: IpAddr,
    pub(crate) head: RequestHead,
    pub(crate) outcome: Outcome,
    pub(crate) traffic: Traffic,
    /// When its head was complete.
    pub(crate) at: Timestamp,
    peer: Peer,
    state: Arc<GatewayState>,
}

/// The data that was transferred, and how long it took.
#[derive(Debug)]
pub(crate) struct Traffic {
    started: Instant,
    /// The status of the response once it has begun.
    pub(crate) status: Option<StatusCode>,
    /// Why the response was aborted after it had begun.
    pub(crate) broken_off: Option<Reason>,
    /// Bytes of body received from the client.
    pub(crate) bytes_in: u64,
    /// Bytes of body sent to the client.
    pub(crate) bytes_out: u64,
    /// The time until the application's response head arrived.
    upstream: Option<Duration>,
}

/// The result of a request.
pub(crate) enum Outcome {
    /// There is no decision yet.
    Undecided,
    /// It was permitted.
    Permitted(Permit),
    /// It was denied.
    Denied(Reason, Option<Arc<Identity>>, Trace),
    /// It was denied before its head could be read.
    Unread(Reason),
    /// It was a preflight.
    Preflight,
}

impl Traffic {
    pub(crate) fn note_upstream_response(&mut self) {
        self.upstream.get_or_insert_with(|| self.started.elapsed());
    }
}

impl Exchange {
    pub(crate) fn new(state: &Arc<GatewayState>, head: RequestHead, peer: Peer) -> Self {
        let traffic = Traffic {
            started: Instant::now(),
            status: None,
            broken_off: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
        };
        Self {
            id: RequestId::next(),
            client: peer.ip,
            head,
            outcome: Outcome::Undecided,
            traffic,
            at: Timestamp::now(),
            peer,
            state: Arc::clone(state),
        }
    }

    /// Returns whether the connection was made for the host that the request names.
    pub(crate) fn addressing(&self) -> Addressing {
        match &self.peer.name {
            Some(name) if !name.covers(host_name(&self.head.host)) => Addressing::Misdirected,
            _ => Addressing::Right,
        }
    }

    /// Returns the client certificate of the connection.
    pub(crate) fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.peer.certificate.as_ref()
    }

    /// Returns a denial before any decision, in the format of the application that the request appears to be for.
    pub(crate) fn denial(&self, reason: Reason) -> Denial {
        let rules = self.state.rules.load();
        Denial::of(reason, rules.site.app(&self.head.host, self.head.path()), &self.head.headers)
    }

    /// Takes the permit out of the exchange, for example when its upstream fails.
    pub(crate) fn take_permit(&mut self) -> Option<Permit> {
        match std::mem::replace(&mut self.outcome, Outcome::Undecided) {
            Outcome::Permitted(permit) => Some(permit),
            other => {
                self.outcome = other;
                None
            }
        }
    }

    /// Returns true if the client itself is the peer of the connection, without a proxy in between.
    pub(crate) fn is_direct(&self) -> bool {
        self.client == self.peer.ip
    }

    fn steps(&self) -> Option<&Trace> {
        match &self.outcome {
            Outcome::Permitted(permit) => Some(permit.steps()),
            Outcome::Denied(_, _, steps) => Some(steps),
            Outcome::Undecided | Outcome::Preflight | Outcome::Unread(_) => None,
        }
    }

    fn app_and_route(&self) -> (Option<&Arc<str>>, Option<&str>) {
        let mut app = None;
        let mut route = None;
        for step in self.steps().into_iter().flatten() {
            match step {
                Step::App(name) => app = Some(name),
                Step::Route(name) => route = Some(&**name),
                _ => {}
            }
        }
        (app, route)
    }

    fn identity(&self) -> Option<&Identity> {
        match &self.outcome {
            Outcome::Permitted(permit) => permit.identity().map(|i| &**i),
            Outcome::Denied(_, identity, _) => identity.as_deref(),
            Outcome::Undecided | Outcome::Preflight | Outcome::Unread(_) => None,
        }
    }

    fn verdict(&self) -> Verdict {
        match &self.outcome {
            Outcome::Permitted(permit) if matches!(permit.target(), Target::CreateLink | Target::Welcome) => {
                Verdict::Own
            }
            Outcome::Permitted(_) => Verdict::Forward,
            Outcome::Preflight => Verdict::Preflight,
            Outcome::Denied(..) | Outcome::Undecided | Outcome::Unread(_) => Verdict::Deny,
        }
    }

    fn denied(&self) -> Option<Reason> {
        match &self.outcome {
            Outcome::Denied(reason, ..) | Outcome::Unread(reason) => Some(*reason),
            Outcome::Undecided => Some(Reason::Internal),
            Outcome::Permitted(_) | Outcome::Preflight => self.traffic.broken_off,
        }
    }
}

/// Also logs and counts requests whose task was aborted.
impl Drop for Exchange {
    fn drop(&mut self) {
        let (app, route) = self.app_and_route();
        let identity = self.identity();
        let verdict = self.verdict();
        let denied = self.denied();
        let status = self.traffic.status.map_or(499, |s| s.as_u16());
        let Traffic { started, bytes_in, bytes_out, upstream, .. } = self.traffic;
        let duration = started.elapsed();
        let agent = self.head.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        self.state.metrics.ended(&Ended { app, verdict, denied, status, bytes_in, bytes_out, duration, upstream });
        self.state.access_log.write(&Entry {
            ts: self.at,
            request_id: self.id.as_str(),
            client_ip: self.client,
            asked: (!matches!(self.outcome, Outcome::Unread(_))).then(|| LoggedRequest {
                method: self.head.method.as_str(),
                host: &self.head.host,
                path: self.head.path(),
                http: self.head.version.name(),
            }),
            route,
            app: app.map(|name| &**name),
            user: identity.map(|i| i.user.as_str()),
            credential: identity.map(|i| i.kind().name()),
            link: identity.and_then(Identity::link_id),
            decision: verdict,
            code: denied.map(Reason::code),
            status,
            bytes_in,
            bytes_out,
            duration,
            upstream,
            tls: self.peer.tls,
            user_agent: agent,
        });
    }
}
