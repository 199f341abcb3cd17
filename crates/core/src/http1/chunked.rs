//! The chunked transfer coding, strictly by its grammar (RFC 9112, section 7.1).

use bytes::{Buf, Bytes};
use thiserror::Error;

/// The longest line with a chunk's size and extensions, in bytes.
const MAX_SIZE_LINE: usize = 256;
/// The longest trailer section, in bytes.
const MAX_TRAILERS: usize = 8 * 1024;
const MAX_TRAILER_FIELDS: usize = 32;
/// Enough for any realistic size, and few enough that 64 bits cannot overflow.
const MAX_SIZE_DIGITS: usize = 15;

/// Decodes chunks. Trailers are checked against the grammar and dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// The line or the trailers received so far.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeLine,
    Data(u64),
    /// CRLF after the data; this many of its bytes have arrived.
    DataEnd(usize),
    /// Trailers; the current line begins at this byte of them.
    Trailers(usize),
    Done,
}

/// What is wrong with chunks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChunkFault {
    /// Not a size, or malformed extensions.
    #[error("a chunk's size line is malformed")]
    Size,
    /// A chunk is longer than its declared size.
    #[error("a chunk does not end after its declared size")]
    DataEnd,
    /// The trailers are malformed or too large.
    #[error("the trailers are malformed or too large")]
    Trailers,
}

impl Chunks {
    /// Takes the next data from `input`; returns nothing if more input is needed or the body has ended.
    pub(super) fn decode(&mut self, input: &mut Bytes) -> Result<Bytes, ChunkFault> {
        while !input.is_empty() && self.state != State::Done {
            match self.state {
                State::SizeLine => self.size_line(input)?,
                State::Data(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let rest = left - n as u64;
                    self.state = if rest == 0 { State::DataEnd(0) } else { State::Data(rest) };
                    return Ok(input.split_to(n));
                }
                State::DataEnd(at) => self.data_end(input.get_u8(), at)?,
                State::Trailers(line) => self.trailers(input.get_u8(), line)?,
                State::Done => {}
            }
        }
        Ok(Bytes::new())
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn size_line(&mut self, input: &mut Bytes) -> Result<(), ChunkFault> {
        let feed = memchr::memchr(b'\n', input);
        let line = input.split_to(feed.map_or(input.len(), |feed| feed + 1));
        if self.text.len() + line.len() > MAX_SIZE_LINE {
            return Err(ChunkFault::Size);
        }
        self.text.extend_from_slice(&line);
        if feed.is_some() {
            let size = parse_size_line(&self.text)?;
            self.text.clear();
            self.state = if size == 0 { State::Trailers(0) } else { State::Data(size) };
        }
        Ok(())
    }

    fn data_end(&mut self, byte: u8, at: usize) -> Result<(), ChunkFault> {
        if b"\r\n".get(at) != Some(&byte) {
            return Err(ChunkFault::DataEnd);
        }
        self.state = if at == 0 { State::DataEnd(1) } else { State::SizeLine };
        Ok(())
    }

    fn trailers(&mut self, byte: u8, line: usize) -> Result<(), ChunkFault> {
        self.text.push(byte);
        if self.text.len() > MAX_TRAILERS {
            return Err(ChunkFault::Trailers);
        }
        if byte != b'\n' {
            return Ok(());
        }
        let last = self.text.get(line..).unwrap_or_default();
        if !last.ends_with(b"\r\n") {
            return Err(ChunkFault::Trailers);
        }
        self.state = State::Trailers(self.text.len());
        if last == b"\r\n" {
            judge_trailers(&self.text)?;
            self.state = State::Done;
        }
        Ok(())
    }
}

fn judge_trailers(text: &[u8]) -> Result<(), ChunkFault> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    match httparse::parse_headers(text, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) if length == text.len() => Ok(()),
        _ => Err(ChunkFault::Trailers),
    }
}

/// `chunk-size [ chunk-ext ] CRLF`
fn parse_size_line(line: &[u8]) -> Result<u64, ChunkFault> {
    let line = line.strip_suffix(b"\r\n").ok_or(ChunkFault::Size)?;
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at_checked(digits).ok_or(ChunkFault::Size)?;
    if size.is_empty() || size.len() > MAX_SIZE_DIGITS || !are_extensions(extensions) {
        return Err(ChunkFault::Size);
    }
    let size = std::str::from_utf8(size).map_err(|_| ChunkFault::Size)?;
    u64::from_str_radix(size, 16).map_err(|_| ChunkFault::Size)
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`
fn are_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(name) = after_sign(text, b';').and_then(after_token) else { return false };
        text = match after_sign(name, b'=') {
            None => name,
            Some(value) => match after_token(value).or_else(|| after_quoted(value)) {
                None => return false,
                Some(rest) => rest,
            },
        };
    }
    true
}

fn after_sign(text: &[u8], sign: u8) -> Option<&[u8]> {
    Some(after_space(after_space(text).strip_prefix(&[sign])?))
}

fn after_space(text: &[u8]) -> &[u8] {
    text.get(text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()..).unwrap_or_default()
}

fn after_token(text: &[u8]) -> Option<&[u8]> {
    let is_token = |b: &&u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let length = text.iter().take_while(is_token).count();
    if length == 0 { None } else { text.get(length..) }
}

fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] | [b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `step` bytes; returns the data, and whether the body has ended.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, bool), ChunkFault> {
        let mut chunks = Chunks::default();
        let mut data = Vec::new();
        for piece in input.chunks(step) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() && !chunks.is_done() {
                data.extend(chunks.decode(&mut piece)?);
            }
        }
        Ok((data, chunks.is_done()))
    }

    #[test]
    fn chunks_are_decoded_however_they_arrive() {
        let body = b"4\r\nWiki\r\n0A;a;b=c; d = \"e\\\";\"\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n";
        for step in [1, 2, 3, 7, 100] {
            assert_eq!(decode(body, step), Ok((b"Wiki0123456789".to_vec(), true)), "{step}");
        }
        assert_eq!(decode(b"0\r\n\r\n", 1), Ok((Vec::new(), true)));
        assert_eq!(decode(b"4\r\nWi", 1), Ok((b"Wi".to_vec(), false)));
    }

    #[test]
    fn bytes_after_the_last_chunk_are_left_alone() {
        let mut chunks = Chunks::default();
        let mut input = Bytes::from_static(b"0\r\n\r\nGET /");
        assert_eq!(chunks.decode(&mut input), Ok(Bytes::new()));
        assert_eq!((chunks.is_done(), input), (true, Bytes::from_static(b"GET /")));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for size in [
            "\r\n",
            "g\r\n",
            "+4\r\n",
            "-4\r\n",
            "0x4\r\n",
            " 4\r\n",
            "4 \r\n",
            "4\n",
            "4\r",
            "4;\r\n",
            "4; \r\n",
            "4;=a\r\n",
            "4;a=\r\n",
            "4;a=\"b\r\n",
            "4;a b\r\n",
            "4,4\r\n",
            "4\r\r\n",
            "4;a\0\r\n",
            "10000000000000000\r\n",
            "4;a=\"\u{7}\"\r\n",
        ] {
            let body = format!("{size}Wiki\r\n0\r\n\r\n");
            assert_eq!(decode(body.as_bytes(), 100), Err(ChunkFault::Size), "{size:?}");
        }
        for end in ["", "\n", "\r", "xx", "\n\r"] {
            let body = format!("4\r\nWiki{end}0\r\n\r\n");
            assert_eq!(decode(body.as_bytes(), 100), Err(ChunkFault::DataEnd), "{end:?}");
        }
        for trailers in ["X\r\n\r\n", "X : 1\r\n\r\n", "X: 1\n\r\n", "\n", "X: 1\r\n 2\r\n\r\n", "X: \0\r\n\r\n"] {
            let body = format!("0\r\n{trailers}");
            assert_eq!(decode(body.as_bytes(), 100), Err(ChunkFault::Trailers), "{trailers:?}");
        }
        assert_eq!(decode(&[b'0'; 300], 7), Err(ChunkFault::Size));
        assert_eq!(decode(&[b"0\r\nX: ".as_slice(), &[b'a'; 9_000]].concat(), 7), Err(ChunkFault::Trailers));
    }
}
