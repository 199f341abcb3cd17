//! Files as they arrive over TCP, sent by the kernel and through memory.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str,
};

use axum::{
    Router,
    extract::ConnectInfo,
    http::{HeaderMap, Method, StatusCode},
    routing::get,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{MAX_RANGE, SendMode, SendQueue};
use crate::{
    media::read_leases::ReadLeases,
    streaming::{
        listener::UntilStopped,
        send::{Disposition, Sending},
    },
};

/// Several ranges of [`MAX_RANGE`], and a rest.
const LENGTH: usize = 3 * MAX_RANGE + 17;

fn content() -> Vec<u8> {
    (0..251).cycle().take(LENGTH).collect()
}

fn sending(path: PathBuf) -> Sending {
    let id = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    let content_type = "video/mp4";
    let disposition = Disposition::Inline;
    let reading = ReadLeases::default().begin(id);
    Sending { id, path, content_type, disposition, name: None, reading, content: None }
}

/// Serves a file with the worker's listener.
async fn served(path: &Path, mode: SendMode, stop: &CancellationToken) -> SocketAddr {
    let path = path.to_owned();
    let response = async move |method: Method, headers: HeaderMap, ConnectInfo(queue): ConnectInfo<SendQueue>| {
        sending(path).respond(&method, &headers, queue).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/", get(response)).into_make_service_with_connect_info::<SendQueue>();
    tokio::spawn(axum::serve(UntilStopped::new(listener, stop.clone(), mode), routes).into_future());
    address
}

/// A response as it arrived: its head, and its body by `Content-Length`.
struct ReceivedResponse {
    head: String,
    body: Vec<u8>,
}

impl ReceivedResponse {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap()
    }
}

/// Asks on one connection for the file, once for each value of `Range`; an empty one is none.
async fn fetch(address: SocketAddr, ranges: &[&str]) -> Vec<ReceivedResponse> {
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut all = Vec::new();
    for range in ranges {
        let range = if range.is_empty() { String::new() } else { format!("Range: {range}\r\n") };
        let request = format!("GET / HTTP/1.1\r\nHost: worker\r\n{range}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let mut response = ReceivedResponse { head: String::from_utf8(head).unwrap(), body: Vec::new() };
        response.body.resize(response.header("content-length").parse().unwrap(), 0);
        client.read_exact(&mut response.body).await.unwrap();
        all.push(response);
    }
    all
}

/// Returns the body of a response with several ranges (RFC 9110, section 14.6).
fn multipart(content_type: &str, slices: &[(usize, usize)]) -> Vec<u8> {
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let content = content();
    let mut body = Vec::new();
    for (first, last) in slices {
        let part = format!(
            "\r\n--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes {first}-{last}/{LENGTH}\r\n\r\n"
        );
        body.extend_from_slice(part.as_bytes());
        body.extend_from_slice(&content[*first..=*last]);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    // The first boundary begins the body.
    body.split_off(2)
}

#[tokio::test]
async fn every_byte_is_the_same_whether_the_kernel_sends_it_or_memory() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let path = folder.path().join("media.mp4");
    fs::write(&path, content()).unwrap();
    for mode in [SendMode::Sendfile, SendMode::Copy] {
        let address = served(&path, mode, &stop).await;
        let ranges = ["", "bytes=0-0", "bytes=1000-700000", "bytes=-17", "bytes=5-9,262140-786440", ""];
        let [whole, one, middle, end, several, again] = fetch(address, &ranges).await.try_into().ok().unwrap();
        let content = content();
        assert!(whole.body == content && again.body == content, "{mode:?}: the whole file");
        assert_eq!(one.body, content[..1], "{mode:?}");
        assert!(middle.body == content[1000..=700_000], "{mode:?}: one range");
        assert_eq!(end.body, content[LENGTH - 17..], "{mode:?}");
        let expected = multipart(several.header("content-type"), &[(5, 9), (262_140, 786_440)]);
        assert!(several.body == expected, "{mode:?}: several ranges");
    }
    stop.cancel();
}

#[tokio::test]
async fn a_file_that_shrinks_ends_the_connection_early_in_both_modes() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    for mode in [SendMode::Sendfile, SendMode::Copy] {
        let path = folder.path().join("media.mp4");
        let file = fs::File::create(&path).unwrap();
        // Far more than the buffers between server and client hold.
        file.set_len(64 << 20).unwrap();
        let address = served(&path, mode, &stop).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n").await.unwrap();
        client.read_u8().await.unwrap();
        file.set_len(0).unwrap();
        let mut rest = Vec::new();
        // The connection is closed, in order or with a reset.
        let _ = client.read_to_end(&mut rest).await;
        assert!(str::from_utf8(&rest[..14]).unwrap().starts_with("TTP/1.1 200"), "{mode:?}");
        assert!(rest.len() < 64 << 20, "{mode:?}: {} bytes", rest.len());
    }
    stop.cancel();
}
