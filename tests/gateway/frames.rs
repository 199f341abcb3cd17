//! HTTP/2 requests that are encoded by hand, since no client library would send them (RFC 9113, sections 4.1 and 6; RFC 7541, section 6.2.2).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{client::connect_http2, instance::Instance};

/// Types of HTTP/2 frames (RFC 9113, section 6).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;

/// Encodes the length of a literal (RFC 7541, section 5.1).
fn length(bytes: usize) -> Vec<u8> {
    match u8::try_from(bytes) {
        Ok(short @ ..127) => vec![short],
        _ => vec![127, u8::try_from((bytes - 127) % 128).unwrap() | 128, u8::try_from((bytes - 127) / 128).unwrap()],
    }
}

/// Sends a request with these fields and no body; returns the type of the first frame that answers it or ends its connection.
pub(crate) fn first_frame(i: &Instance, fields: &[(&str, &str)]) -> u8 {
    let text = |text: &str| [&length(text.len()), text.as_bytes()].concat();
    let block: Vec<u8> = fields.iter().flat_map(|(n, v)| [vec![0], text(n), text(v)].concat()).collect();
    let [high, low] = u16::try_from(block.len()).unwrap().to_be_bytes();
    let head = [0, high, low, HEADERS, 5, 0, 0, 0, 1];
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &head[..], &block].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stream = connect_http2(i.tls, &i.authority()).await;
        stream.write_all(&bytes).await.unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            if head[8] == 1 || head[3] == GOAWAY {
                return head[3];
            }
        }
    })
}
