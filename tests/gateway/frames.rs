//! HTTP/2 requests that are encoded by hand, since no client library would send them (RFC 9113, sections 4.1 and 6; RFC 7541, section 6.2.2).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{bans, canary::Canary, client::connect_http2, instance::Instance};

/// Types of HTTP/2 frames (RFC 9113, section 6).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// Encodes the length of a literal (RFC 7541, section 5.1).
fn length(bytes: usize) -> Vec<u8> {
    match u8::try_from(bytes) {
        Ok(short @ ..127) => vec![short],
        _ => vec![127, u8::try_from((bytes - 127) % 128).unwrap() | 128, u8::try_from((bytes - 127) / 128).unwrap()],
    }
}

/// What a client sends first: the preface and empty settings (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Encodes a request with these fields and no body.
fn request(stream: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&length(text.len()), text.as_bytes()].concat();
    let block: Vec<u8> = fields.iter().flat_map(|(n, v)| [vec![0], text(n), text(v)].concat()).collect();
    let [high, low] = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&[0, high, low, HEADERS, 5, 0, 0, 0, stream][..], &block].concat()
}

/// A frame of the gateway.
struct Frame {
    kind: u8,
    stream: u8,
    payload: Vec<u8>,
}

/// Reads a frame; `None` at the end of the connection, if TLS announces it.
async fn next_frame(connection: &mut TlsStream<TcpStream>) -> Option<Frame> {
    let mut head = [0; 9];
    if connection.read(&mut head[..1]).await.unwrap() == 0 {
        return None;
    }
    connection.read_exact(&mut head[1..]).await.unwrap();
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    connection.read_exact(&mut payload).await.unwrap();
    Some(Frame { kind: head[3], stream: head[8], payload })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Sends a request with these fields and no body; returns the type of the first frame that answers it or ends its connection.
pub(crate) fn first_frame(i: &Instance, fields: &[(&str, &str)]) -> u8 {
    block_on(async {
        let mut stream = connect_http2(i.tls, &i.authority()).await;
        stream.write_all(&[PREFACE, &request(1, fields)].concat()).await.unwrap();
        loop {
            let frame = next_frame(&mut stream).await.unwrap();
            if frame.stream == 1 || frame.kind == GOAWAY {
                return frame.kind;
            }
        }
    })
}

#[test]
fn a_client_that_still_sends_when_its_connection_ends_is_not_reset() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("shared_addresses = [\"127.0.0.0/8\", \"::1/128\"]", "shared_addresses = []");
        bans::set(i, &[("include_local", "true"), ("denied_requests", "2")]);
    });
    let denied = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/api/downloads")];
    let written = block_on(async {
        let mut stream = connect_http2(i.tls, &i.authority()).await;
        let requests = [1, 3, 5].map(|id| request(id, &denied)).concat();
        stream.write_all(&[PREFACE, &requests].concat()).await.unwrap();
        let mut was_told = false;
        while let Some(frame) = next_frame(&mut stream).await {
            was_told |= frame.kind == GOAWAY;
            if frame.kind == PING {
                stream.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &frame.payload].concat()).await.unwrap();
            }
        }
        assert!(was_told);
        let mut written = 0;
        // A reset arrives some time after the write that it answers, so the writes are spread over a part of the time for which the
        // gateway reads on.
        for _ in 0..10 {
            if stream.write_all(&[0; 1024]).await.and(stream.flush().await).is_err() {
                break;
            }
            written += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        written
    });
    assert_eq!(written, 10, "the connection was reset");
}
