//! Rewrites the head of a site's response to a plain HTTP request, so that the connection ends with the response.
//!
//! If a site did not mention the connection, or kept it open, yt-dlp would send its next request on it, although the guard has closed
//! it.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// The maximum number of interim responses (1xx) before the final one.
const MAX_INTERIM: usize = 16;
/// Fields about the connection to the site (RFC 9110, section 7.6.1), which do not apply to the child's connection.
const OF_CONNECTION: [&[u8]; 3] = [b"connection", b"keep-alive", b"proxy-connection"];

/// Reads the heads of one response, interim ones included. Returns them for the child, with the part of the body that has arrived.
///
/// Anything that does not look like a response is passed on unchanged: the child handles it in its sandbox.
pub(super) async fn head(host: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut out = Vec::new();
    let mut input = BytesMut::new();
    for _ in 0..=MAX_INTERIM {
        let Some(end) = read_head(host, &mut input).await? else { break };
        let head = input.split_to(end);
        let interim = is_interim(&head);
        close_after(&head, &mut out);
        if !interim {
            break;
        }
    }
    out.extend_from_slice(&input);
    Ok(out.into())
}

/// Reads until `input` starts with a whole head. Returns the end of the head, or none if it is too long or cut off.
async fn read_head(host: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) -> io::Result<Option<usize>> {
    let mut seen = 0;
    loop {
        if let Some(end) = end_of_head(input, seen) {
            return Ok(Some(end));
        }
        // An empty line split between two reads starts within the last three bytes.
        seen = input.len().saturating_sub(3);
        if input.len() >= MAX_HEAD || host.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
}

/// Returns the offset after the first empty line. Line ends may be bare line feeds: some sites send them, and clients accept them.
fn end_of_head(input: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'\n', input.get(at..)?)? + 1;
        match input.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

/// Returns true for `HTTP/1.1 1xx`, except 101, after which the connection switches to another protocol.
fn is_interim(head: &[u8]) -> bool {
    match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'1', tens, ones, ..] => [*tens, *ones] != *b"01",
        _ => false,
    }
}

/// Writes the head with `Connection: close`.
fn close_after(head: &[u8], out: &mut Vec<u8>) {
    let mut lines = head.split_inclusive(|b| *b == b'\n');
    out.extend_from_slice(lines.next().unwrap_or_default());
    let mut dropped = false;
    for line in lines {
        if line.trim_ascii().is_empty() {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        // A line that starts with white space continues the previous one.
        dropped = if line.starts_with(b" ") || line.starts_with(b"\t") { dropped } else { is_of_connection(line) };
        if !dropped {
            out.extend_from_slice(line);
        }
    }
}

fn is_of_connection(line: &[u8]) -> bool {
    let name = line.split(|b| *b == b':').next().unwrap_or_default().trim_ascii();
    OF_CONNECTION.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed_on(response: &str, piece: usize) -> String {
        let pieces: Vec<_> =
            response.as_bytes().chunks(piece).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
        let mut host = tokio_util::io::StreamReader::new(futures_util::stream::iter(
            pieces.into_iter().map(|piece| piece.map(std::io::Cursor::new)),
        ));
        let mut out = head(&mut host).await.unwrap().to_vec();
        host.read_to_end(&mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn a_response_ends_its_connection_whatever_its_head_says() {
        for (response, expected) in [
            ("HTTP/1.1 200 OK\r\nA: 1\r\n\r\nbody", "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: close\r\n\r\nbody"),
            (
                "HTTP/1.1 302 Found\r\nConnection : keep-alive,\r\n x\r\nKEEP-ALIVE: timeout=5\r\nLocation: /\r\n\r\n",
                "HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\n\r\n",
            ),
            ("HTTP/1.0 200 OK\nA: 1\n\nbody\n\n", "HTTP/1.0 200 OK\nA: 1\nConnection: close\r\n\nbody\n\n"),
            (
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
                "HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\nHTTP/1.1 204 None\r\nConnection: close\r\n\r\n",
            ),
            ("no response at all", "no response at all"),
            ("", ""),
        ] {
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(passed_on(response, piece).await, expected, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_not_buffered_without_limit() {
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(3 * MAX_HEAD));
        assert_eq!(passed_on(&endless, 10_000).await, endless);
    }
}
