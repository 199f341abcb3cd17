//! Tries at startup whether sendfile works underneath hyper: a file must arrive complete and in order.

use std::{
    fs::{self, File},
    future::pending,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
    serve::Listener,
};
use memchr::memmem;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{MAX_RANGE, SendMode, SendQueue, SendfileStream};
use crate::streaming::{multipart::Segment, pieces, range::ByteRange};

/// The longest that the test may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The length of the test's file: more than one range.
const LENGTH: usize = MAX_RANGE + 1000;
/// The second segment of a file begins here, in its last range.
const END_FROM: u64 = MAX_RANGE as u64 + 500;
/// The bytes before each segment of a file.
const WHOLE: &str = "whole:";
const END: &str = "end:";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// The maximum number of bytes that are read: far more than two responses have.
const MAX_RESPONSES: u64 = 4 << 20;
/// Two requests on one connection, because the second response must not get a range of the first.
const REQUESTS: &[u8] =
    b"GET / HTTP/1.1\r\nHost: self-test\r\n\r\nGET / HTTP/1.1\r\nHost: self-test\r\nConnection: close\r\n\r\n";

/// What is wrong with sendfile here.
#[derive(Debug, Error)]
enum Fault {
    #[error("cannot create a file in {folder}: {error}")]
    File { folder: PathBuf, error: io::Error },
    #[error("cannot use a pair of sockets: {0}")]
    Socket(#[from] io::Error),
    #[error("response {number} differs from what was to be sent, from byte {at} of {length}")]
    Response { number: usize, at: usize, length: usize },
    #[error("no response after {} s", LIMIT.as_secs())]
    Late,
}

/// Runs the self-test with a file in `folder`, and returns how files can be sent.
pub(crate) async fn choose_mode(folder: &Path) -> SendMode {
    match run(folder, |stream| stream).await {
        Ok(()) => SendMode::Sendfile,
        Err(fault) => {
            tracing::warn!(%fault, "the self-test of sendfile failed; until its next start the worker reads files into memory before it sends them, which takes more CPU time");
            SendMode::Copy
        }
    }
}

/// Serves a file to this process on a connection that `wrap` may change.
async fn run<I>(folder: &Path, wrap: impl FnOnce(SendfileStream<UnixStream>) -> I) -> Result<(), Fault>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let path = folder.join(format!("self-test-{}", Uuid::new_v4().simple()));
    let opened = spawn_blocking(move || create(&path)).await.map_err(io::Error::from).flatten();
    let file = Arc::new(opened.map_err(|error| Fault::File { folder: folder.to_owned(), error })?);
    let (server, client) = UnixStream::pair()?;
    let stream = SendfileStream::new(server, SendMode::Sendfile);
    let queue = stream.send_queue();
    let routes = Router::new().fallback(async move || respond(file, queue));
    let serving = axum::serve(Single(Some(wrap(stream))), routes).into_future();
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let came = timeout(LIMIT, ask(client)).await.map_err(|_| Fault::Late)??;
    compare(&came)
}

/// Creates the file, and removes its name.
fn create(path: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    file.write_all(&content())?;
    Ok(file)
}

/// Returns the file's content. Its period is a prime, so no range looks like another.
fn content() -> Vec<u8> {
    (0..251).cycle().take(LENGTH).collect()
}

/// Answers with the whole file and its end, each after bytes in memory, like a response with several ranges.
fn respond(file: Arc<File>, queue: SendQueue) -> Response {
    let last = (LENGTH as u64).saturating_sub(1);
    let from = |first| Segment::File(ByteRange { first, last });
    let segments = [Segment::Text(WHOLE.into()), from(0), Segment::Text(END.into()), from(END_FROM)];
    let length = [(header::CONTENT_LENGTH, expected().len().to_string())];
    (length, pieces::body(file, segments.into(), queue, ())).into_response()
}

/// Returns the body that [`respond`] describes.
fn expected() -> Vec<u8> {
    let content = content();
    let end = content.iter().skip(usize::try_from(END_FROM).unwrap_or_default());
    WHOLE.bytes().chain(content.iter().copied()).chain(END.bytes()).chain(end.copied()).collect()
}

/// Sends the requests, and returns everything that arrives.
async fn ask(mut client: UnixStream) -> io::Result<Vec<u8>> {
    client.write_all(REQUESTS).await?;
    let mut came = Vec::new();
    client.take(MAX_RESPONSES).read_to_end(&mut came).await?;
    Ok(came)
}

/// Compares the bodies of two responses with what they must be.
fn compare(came: &[u8]) -> Result<(), Fault> {
    let expected = expected();
    let mut rest = came;
    for number in 1..=2 {
        let body = memmem::find(rest, HEAD_END).and_then(|at| rest.get(at.saturating_add(HEAD_END.len())..));
        let body = body.unwrap_or_default();
        let same = body.iter().zip(&expected).take_while(|(came, wanted)| came == wanted).count();
        if same < expected.len() {
            return Err(Fault::Response { number, at: same, length: expected.len() });
        }
        rest = body.get(same..).unwrap_or_default();
    }
    Ok(())
}

/// A listener that accepts one connection.
struct Single<I>(Option<I>);

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Listener for Single<I> {
    type Io = I;
    type Addr = ();

    async fn accept(&mut self) -> (I, ()) {
        match self.0.take() {
            Some(io) => (io, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::ReadBuf;

    use super::*;

    /// A connection for which hyper joins the pieces in memory, placeholders included.
    struct Joining(SendfileStream<UnixStream>);

    impl AsyncWrite for Joining {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl AsyncRead for Joining {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    #[tokio::test]
    async fn sendfile_works_underneath_this_hyper() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), |stream| stream).await.unwrap();
        assert_eq!(choose_mode(folder.path()).await, SendMode::Sendfile);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the file is removed");
    }

    #[tokio::test]
    async fn a_hyper_that_copies_placeholders_is_found_before_it_sends_them() {
        let folder = tempfile::tempdir().unwrap();
        let fault = run(folder.path(), Joining).await.unwrap_err();
        assert!(matches!(fault, Fault::Response { number: 1, at: 0, .. }), "{fault}");
    }

    #[tokio::test]
    async fn placeholders_that_are_sent_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let fault = run(folder.path(), |stream| stream.socket).await.unwrap_err();
        // The file begins with a zero, as a placeholder does.
        let first = WHOLE.len() + 1;
        assert!(matches!(fault, Fault::Response { number: 1, at, .. } if at == first), "{fault}");
    }

    #[test]
    fn a_short_response_and_a_missing_one_are_found() {
        let whole = [b"HTTP/1.1 200 OK\r\n\r\n", &expected()[..]].concat();
        compare(&[&whole[..], &whole].concat()).unwrap();
        for came in [&whole[..], &whole[..whole.len() - 1], b"", &[&whole[..], &whole[..whole.len() - 1]].concat()] {
            assert!(matches!(compare(came), Err(Fault::Response { .. })));
        }
    }

    #[tokio::test]
    async fn if_the_test_is_impossible_files_are_copied() {
        assert_eq!(choose_mode(Path::new("/nonexistent")).await, SendMode::Copy);
    }
}
