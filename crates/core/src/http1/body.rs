//! Decodes the body of an HTTP/1 message: finds its end, and its data without the framing.

use bytes::Bytes;
use thiserror::Error;

use super::chunked::{ChunkFault, Chunks};

/// How a body ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes; 0 if there is no body.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection; only for responses.
    UntilClose,
}

/// Extracts the data of a body as its bytes arrive.
#[derive(Clone, Debug)]
pub struct BodyDecoder(State);

#[derive(Clone, Debug)]
enum State {
    Length(u64),
    Chunked(Box<Chunks>),
    UntilClose,
    Done,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection was closed before the end of the body.
    #[error("the body is incomplete")]
    Truncated,
    /// The chunks are malformed.
    #[error(transparent)]
    Chunk(#[from] ChunkFault),
}

impl BodyDecoder {
    /// Creates a decoder for a body with this framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::default()),
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Takes the next data from `input`; returns `None` if more input is needed or the body has ended.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyFault> {
        let data = match &mut self.0 {
            State::Done => return Ok(None),
            State::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= n as u64;
                let data = input.split_to(n);
                if *left == 0 {
                    self.0 = State::Done;
                }
                data
            }
            State::Chunked(chunks) => {
                let data = chunks.decode(input)?;
                if chunks.is_done() {
                    self.0 = State::Done;
                }
                data
            }
            State::UntilClose => std::mem::take(input),
        };
        Ok(Some(data).filter(|data| !data.is_empty()))
    }

    /// Returns how much data the next `input` contains, without consuming it.
    ///
    /// # Errors
    /// The input violates the framing.
    pub fn judge(&self, input: &Bytes) -> Result<u64, BodyFault> {
        let mut ahead = self.clone();
        let mut input = input.clone();
        let mut bytes = 0;
        while !input.is_empty() && !ahead.is_done() {
            bytes += ahead.decode(&mut input)?.map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }

    /// Notes that the connection was closed.
    pub fn end(&mut self) -> Result<(), BodyFault> {
        match self.0 {
            State::Done => Ok(()),
            State::UntilClose => {
                self.0 = State::Done;
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(BodyFault::Truncated),
        }
    }

    /// Returns true once the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_after_a_body_are_left_alone() {
        let mut input = Bytes::from_static(b"bodyGET / HTTP/1.1");
        let mut decoder = BodyDecoder::new(Framing::Length(4));
        assert_eq!(decoder.decode(&mut input).unwrap().unwrap(), "body");
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert_eq!(input, "GET / HTTP/1.1");
    }

    #[test]
    fn input_is_judged_without_being_consumed() {
        let decoder = BodyDecoder::new(Framing::Chunked);
        let judge = |input: &'static str| decoder.judge(&Bytes::from_static(input.as_bytes()));
        assert_eq!(judge("4\r\nWiki\r\n5\r\npe"), Ok(6));
        assert_eq!(judge("4\r\nWiki\r\n0\r\n\r\nx\r\n"), Ok(4), "the bytes after the body belong to the next request");
        assert!(judge("4\r\nWiki\r\nx\r\n").is_err() && judge("4\r\nWikipedia").is_err());
        assert_eq!(BodyDecoder::new(Framing::Length(3)).judge(&Bytes::from_static(b"12345")), Ok(3));
    }

    #[test]
    fn a_body_that_is_cut_short_is_reported() {
        for framing in [Framing::Length(4), Framing::Chunked] {
            let mut decoder = BodyDecoder::new(framing);
            decoder.decode(&mut Bytes::from_static(b"2")).unwrap();
            assert_eq!(decoder.end(), Err(BodyFault::Truncated));
        }
        let mut decoder = BodyDecoder::new(Framing::UntilClose);
        assert_eq!(decoder.decode(&mut Bytes::from_static(b"all")).unwrap().unwrap(), "all");
        assert_eq!((decoder.end(), decoder.is_done()), (Ok(()), true));
    }
}
