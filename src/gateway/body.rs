//! Reads a body that must be judged before anything goes upstream.

use std::time::Duration;

use http::header;
use pingora::{Result, proxy::Session};

use crate::policy::Reason;

/// A small body arrives within this time, or not at all.
const DEADLINE: Duration = Duration::from_secs(15);

/// Reads the whole body of at most `max` bytes; the inner error is the client's fault.
pub(super) async fn read_whole(session: &mut Session, max: u64) -> Result<Result<Vec<u8>, Reason>> {
    if session.get_header(header::EXPECT).is_some() {
        session.write_continue_response().await?;
    }
    // Once it is read, pingora sends what this buffer holds, and the filter there replaces it.
    session.as_mut().enable_retry_buffering();
    match tokio::time::timeout(DEADLINE, read_up_to(session, max)).await {
        Ok(read) => read,
        Err(_) => Ok(Err(Reason::BodyTooSlow)),
    }
}

async fn read_up_to(session: &mut Session, max: u64) -> Result<Result<Vec<u8>, Reason>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.as_mut().read_request_body().await? {
        if body.len() as u64 + chunk.len() as u64 > max {
            return Ok(Err(Reason::BodyTooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Ok(body))
}
