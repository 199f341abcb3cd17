//! One client of the guard, from its request to the end of the transfer.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use sallyport_core::{
    clock,
    http1::{HeadFault, HeadScan},
};
use thiserror::Error;
use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional_with_sizes, copy_buf, split,
    },
    time::{sleep, timeout},
};

use super::{
    Inner,
    dial::DialError,
    meter::Metered,
    request::{Kind, Request, RequestError},
    response,
    token::{EgressToken, EgressTokenError},
};

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without traffic for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// The longest host name in the log (RFC 1035, section 2.3.4), in bytes.
const MAX_HOST: usize = 253;
/// The buffer for each direction of a connection, in bytes.
const BUFFER: usize = 64 * 1024;

/// Why a client is refused.
#[derive(Debug, Error)]
enum Refused {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Token(#[from] EgressTokenError),
    #[error("the job has too many connections open")]
    TooMany,
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// Serves one request, then closes the connection.
pub(super) async fn serve<S>(guard: &Inner, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(Ok((head, rest))) = timeout(HEAD_TIMEOUT, read_head(&mut stream)).await else { return };
    let request = match head.map_err(RequestError::from).and_then(|head| Request::parse(&head)) {
        Ok(request) => request,
        Err(error) => return refuse(&mut stream, &error.into()).await,
    };
    let host = shown(&request.to.host);
    let port = request.to.port;
    let token = request.credential.as_deref().ok_or(EgressTokenError::Malformed);
    let token = match token.and_then(|credential| guard.key.verify(credential, clock::unix_now())) {
        Ok(token) => token,
        Err(error) => return refuse(&mut stream, &error.into()).await,
    };
    match open(guard, &token, &request).await {
        Ok(remote) => {
            let passed = remote.passed();
            let end = relay(stream, remote, request.kind, rest, &token).await;
            let bytes = passed.load(Ordering::Relaxed);
            let end = end.err().map(|e| e.to_string()).unwrap_or_default();
            if guard.budgets.admits_line(&token, clock::unix_now()) {
                tracing::info!(target: "sallyport::egress", job = %token.job, host, port, bytes, end, "egress");
            }
        }
        Err(refused) => {
            if guard.budgets.admits_line(&token, clock::unix_now()) {
                tracing::warn!(target: "sallyport::egress", job = %token.job, host, port, %refused, "egress refused");
            }
            refuse(&mut stream, &refused).await;
        }
    }
}

/// Returns a host for the log. No DNS name is longer than [`MAX_HOST`], but a child may send any text.
fn shown(host: &url::Host) -> String {
    let name = host.to_string();
    match name.get(..name.floor_char_boundary(MAX_HOST)) {
        Some(start) if start.len() < name.len() => format!("{start}... [{} bytes]", name.len()),
        _ => name,
    }
}

async fn open(guard: &Inner, token: &EgressToken, request: &Request) -> Result<Metered, Refused> {
    let budget = guard.budgets.open(token, clock::unix_now()).ok_or(Refused::TooMany)?;
    let remote = guard.destinations.dial(&guard.lookups, token.job, &request.to).await?;
    Ok(Metered::new(remote, budget))
}

/// Reads the head. Returns it, or what is wrong with it, and the bytes after it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Result<Bytes, HeadFault>, Bytes)> {
    let mut input = BytesMut::new();
    let mut scan = HeadScan::default();
    loop {
        match scan.end(&input) {
            Ok(Some(end)) => {
                let head = input.split_to(end).freeze();
                return Ok((Ok(head), input.freeze()));
            }
            Err(fault) => return Ok((Err(fault), Bytes::new())),
            Ok(None) => {}
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Relays until one side ends, the budget or the time of the token is used up, or there is no more traffic.
async fn relay<S>(mut stream: S, mut remote: Metered, kind: Kind, rest: Bytes, token: &EgressToken) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let passed = remote.passed();
    let time = Duration::from_secs(u64::try_from(token.until.saturating_sub(clock::unix_now())).unwrap_or(0));
    let passing = async {
        match kind {
            Kind::Tunnel => {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                remote.write_all(&rest).await?;
                copy_bidirectional_with_sizes(&mut stream, &mut remote, BUFFER, BUFFER).await.map(drop)
            }
            Kind::Forward { head, body } => forward(stream, remote, &head, body, rest).await,
        }
    };
    tokio::select! {
        end = passing => end,
        () = stalled(&passed) => Err(io::Error::new(io::ErrorKind::TimedOut, "no traffic for too long")),
        () = sleep(time) => Err(io::Error::new(io::ErrorKind::TimedOut, "the egress token has expired")),
    }
}

/// Forwards one request and its response. Anything the client sends after its request is not for this host and ends the connection.
async fn forward<S>(stream: S, remote: Metered, head: &[u8], body: u64, mut rest: Bytes) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ((mut client_out, mut client_in), (mut host_in, mut host_out)) = (split(stream), split(remote));
    host_out.write_all(head).await?;
    let first = rest.split_to(rest.len().min(usize::try_from(body).unwrap_or(usize::MAX)));
    host_out.write_all(&first).await?;
    if !rest.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more than one request"));
    }
    let sending = async {
        let mut rest = BufReader::with_capacity(BUFFER, (&mut client_out).take(body - first.len() as u64));
        copy_buf(&mut rest, &mut host_out).await?;
        // The client has nothing more to send; another byte, or the end of its stream, ends the connection.
        client_out.read(&mut [0; 1]).await.map(drop)
    };
    let receiving = async {
        client_in.write_all(&response::head(&mut host_in).await?).await?;
        copy_buf(&mut BufReader::with_capacity(BUFFER, &mut host_in), &mut client_in).await
    };
    tokio::select! {
        sent = sending => return sent,
        received = receiving => received?,
    };
    client_in.shutdown().await
}

async fn stalled(passed: &AtomicU64) {
    let mut seen = passed.load(Ordering::Relaxed);
    loop {
        sleep(IDLE_TIMEOUT).await;
        let now = passed.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

async fn refuse(stream: &mut (impl AsyncWrite + Unpin), refused: &Refused) {
    let status = match refused {
        Refused::Request(_) => "400 Bad Request",
        Refused::Token(_) => "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"egress\"",
        Refused::TooMany => "429 Too Many Requests",
        // No site uses these words, so that yt-dlp's error message distinguishes the guard's response from a site's.
        Refused::Dial(error) if error.is_forbidden() => "403 Host Not Allowed",
        Refused::Dial(_) => "502 Host Not Reached",
    };
    let body = format!("{refused}\n");
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}
