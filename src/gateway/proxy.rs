//! The adapter to pingora: each of its filters does one thing of ours.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::l4::socket::SocketAddr as PingoraAddr,
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::{HttpPeer, PeerOptions},
};
use serde::Deserialize;
use tracing::{debug, warn};

use super::{
    body,
    client_address::client_address,
    context::{Context, Outcome, host},
    headers,
    links::{LinkPlace, LinkRefusal, LinkRequest},
    live::{Live, now},
    respond,
};
use crate::{
    config::Upstream,
    policy::{CorsAnswer, Decision, Denial, Permit, Reason, RequestFacts, Target},
};

/// An application that does not take a connection within this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than the five seconds after which uvicorn, and many others, close an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The proxy.
pub(super) struct Gateway {
    pub(super) live: Arc<Live>,
}

/// The body of `POST /.sallyport/links`, as its rule has let it through.
#[derive(Deserialize)]
struct CreateLink {
    path: String,
    expires: Option<String>,
    user: Option<String>,
}

impl Gateway {
    /// Judges the request, its body included where the route has a rule for it.
    async fn decide(&self, session: &mut Session, context: &mut Context) -> Result<Decision> {
        let decision = self.judge_head(session, context);
        let Decision::Judge(pending) = decision else { return Ok(decision) };
        match body::read_whole(session, pending.max_bytes()).await.map_err(Error::into_down)? {
            Ok(body) => {
                context.bytes_in = body.len() as u64;
                Ok(pending.judge(&session.req_header().headers, &body))
            }
            Err(reason) => Ok(Decision::Respond(pending.deny(reason))),
        }
    }

    fn judge_head(&self, session: &Session, context: &mut Context) -> Decision {
        let request = session.req_header();
        let peer = peer_address(session);
        context.client = client_address(peer, &request.headers, |ip| self.live.config.trusts_proxy(ip));
        let facts = RequestFacts {
            method: &request.method,
            path: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
            host: host(request),
            client: context.client,
            upgrade: request.headers.contains_key(header::UPGRADE),
        };
        self.live.site.decide(&facts, &self.live.authority.load(), now())
    }

    async fn deny(&self, session: &mut Session, context: &mut Context, denial: Denial) -> Result<()> {
        debug!(request_id = %context.id, steps = ?denial.steps, "denied");
        let answered = respond::deny(session, context, &denial).await;
        context.outcome = Outcome::Denied(denial.reason, denial.identity, denial.steps);
        answered
    }

    /// Makes the link that a permitted request asks for.
    async fn create_link(&self, session: &mut Session, context: &mut Context, permit: Permit) -> Result<()> {
        let made = match Self::link_request(session, &permit) {
            Ok(request) => self.live.make_link(request).await,
            Err(refusal) => Err(refusal),
        };
        match made {
            Ok(link) => {
                let answered = respond::json(session, context, (StatusCode::CREATED, permit.cors()), &link).await;
                context.outcome = Outcome::Permitted(permit);
                answered
            }
            Err(refusal) => {
                let mut denial = permit.revoke(refusal.reason());
                denial.detail = Some(refusal.to_string());
                self.deny(session, context, denial).await
            }
        }
    }

    fn link_request(session: &Session, permit: &Permit) -> Result<LinkRequest, LinkRefusal> {
        let maker = permit.identity().ok_or(LinkRefusal::Forbidden)?;
        let body = permit.body().ok_or(LinkRefusal::Internal)?;
        let body: CreateLink = serde_json::from_slice(body).map_err(|_| LinkRefusal::Internal)?;
        let user = body.user.map(|user| user.parse()).transpose().map_err(|_| LinkRefusal::BadUser)?;
        let life = body.expires.map(|text| text.parse()).transpose().map_err(|_| LinkRefusal::BadLife)?;
        Ok(LinkRequest {
            place: LinkPlace::Host(host(session.req_header()).to_owned()),
            target: body.path,
            life,
            user: user.unwrap_or_else(|| maker.user.clone()),
            maker: Some(Arc::clone(maker)),
            base: format!("https://{}", host(session.req_header())),
        })
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new()
    }

    /// None: pingora's own would be compression, which media does not want and secrets in answers do not bear (BREACH).
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        match self.decide(session, context).await? {
            Decision::Forward(permit) => {
                debug!(request_id = %context.id, steps = ?permit.steps(), "permitted");
                if let Target::CreateLink = permit.target() {
                    self.create_link(session, context, permit).await?;
                    return Ok(true);
                }
                context.outcome = Outcome::Permitted(permit);
                Ok(false)
            }
            Decision::Preflight(answer) => {
                context.outcome = Outcome::Preflight;
                respond::preflight(session, context, &answer).await?;
                Ok(true)
            }
            Decision::Respond(denial) => {
                self.deny(session, context, denial).await?;
                Ok(true)
            }
            Decision::Judge(_) => Error::e_explain(ErrorType::InternalError, "a body was judged and is still pending"),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        let permit = context.permit().ok_or_else(no_permit)?;
        let Target::Upstream(upstream) = permit.target() else { return Err(no_permit()) };
        let mut peer = match upstream {
            Upstream::Tcp(address) => HttpPeer::new(*address, false, String::new()),
            Upstream::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?,
        };
        set_timeouts(&mut peer.options, permit.app().timeout);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        // Another try begins with the head again.
        context.body_sent = false;
        let permit = context.permit().ok_or_else(no_permit)?;
        headers::to_upstream(request, permit, context)?;
        if permit.app().statement {
            let statement = headers::statement(request, permit, context, now());
            headers::set_statement(request, self.live.statement_key.sign(&statement))?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        context: &mut Context,
    ) -> Result<()> {
        let Some(permit) = context.permit() else { return Err(no_permit()) };
        if let Some(judged) = permit.body() {
            // At once, and not at the end: with trailers still unread, the first call is not the last.
            *body = (!context.body_sent).then(|| Bytes::copy_from_slice(judged));
            context.body_sent = true;
            return Ok(());
        }
        let max = permit.route().max_body;
        context.bytes_in += body.as_ref().map_or(0, Bytes::len) as u64;
        if context.bytes_in > max {
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is larger than its route takes");
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        context.note_upstream_answer();
        let cors = context.permit().map_or(&CorsAnswer::None, Permit::cors);
        headers::from_upstream(response, cors, context, host(session.req_header()))
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        let reason = failure(error);
        let code = reason.map_or(0, |r| r.status().as_u16());
        if let Some(reason) = reason {
            warn!(request_id = %context.id, %error, code = reason.code(), "a request failed");
            if session.response_written().is_none() {
                let denial = denial_for(reason, context);
                let _ = self.deny(session, context, denial).await;
            }
        }
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, context: &mut Context) {
        context.log(session, &self.live.access_log);
    }
}

fn denial_for(reason: Reason, context: &mut Context) -> Denial {
    match context.take_permit() {
        Some(permit) => permit.revoke(reason),
        None => Denial::bare(reason),
    }
}

/// What went wrong between client and application; None where it was the client that went.
fn failure(error: &Error) -> Option<Reason> {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, WriteError, WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        (_, HTTPStatus(413)) => Some(Reason::BodyTooLarge),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Reason::UpstreamTimeout),
        (ErrorSource::Upstream, _) | (_, ConnectTimedout) => Some(Reason::UpstreamUnreachable),
        (ErrorSource::Downstream, ReadError | WriteError | ConnectionClosed | WriteTimedout) => None,
        (ErrorSource::Downstream, ReadTimedout) => Some(Reason::BodyTooSlow),
        (ErrorSource::Downstream, _) => Some(Reason::BadBody),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Reason::Internal),
    }
}

fn set_timeouts(options: &mut PeerOptions, timeout: Duration) {
    options.connection_timeout = Some(CONNECT_TIMEOUT);
    options.total_connection_timeout = Some(CONNECT_TIMEOUT);
    options.read_timeout = Some(timeout);
    options.write_timeout = Some(timeout);
    options.idle_timeout = Some(IDLE_TIMEOUT);
}

fn peer_address(session: &Session) -> IpAddr {
    match session.client_addr() {
        Some(PingoraAddr::Inet(address)) => address.ip().to_canonical(),
        _ => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "pingora's results hold boxed errors")]
fn no_permit() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "no permit")
}
