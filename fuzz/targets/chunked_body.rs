//! A body has the same meaning however its bytes are split; what is written is read back, and an independent parser agrees.

use bytes::{Buf, Bytes};
use sallyport_core::http1::{BodyDecoder, BodyEncoder, BodyFault, Framing};

/// The data, whether the body has ended or the error, and the rest of the input.
type Read = (Vec<u8>, Result<bool, BodyFault>, Vec<u8>);

pub fn run(data: &[u8]) {
    let whole = decode(data, data.len().max(1));
    for step in [1, 2, 3, 7, 64] {
        let pieces = decode(data, step);
        // Data before an error may be returned earlier or later; the bytes left over then have no meaning.
        match whole.1 {
            Ok(_) => assert_eq!(pieces, whole, "in pieces of {step}"),
            Err(_) => assert_eq!((&pieces.0, &pieces.1), (&whole.0, &whole.1), "in pieces of {step}"),
        }
    }
    if let (read, Ok(true), rest) = &whole {
        let (expected, length) = reference(data).expect("the reference parser refuses the body");
        assert_eq!((read, rest.as_slice()), (&expected, &data[length..]));
    }
    reads_back(data);
}

fn decode(data: &[u8], step: usize) -> Read {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut read = Vec::new();
    let mut left = Vec::new();
    for piece in data.chunks(step) {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(data)) => read.extend_from_slice(&data),
                Ok(None) => break,
                Err(fault) => return (read, Err(fault), Vec::new()),
            }
        }
        left.extend_from_slice(&piece);
    }
    (read, Ok(decoder.is_done()), left)
}

/// A minimal parser of RFC 9112, section 7.1, which checks only sizes and line ends; returns the data and the end of the body.
fn reference(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut read = Vec::new();
    let mut at = 0;
    loop {
        let line = line_from(data, at)?;
        at += line.len() + 2;
        let digits = line.split(|b| b";\t ".contains(b)).next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        read.extend_from_slice(data.get(at..at.checked_add(size)?)?);
        at += size;
        at += data.get(at..)?.starts_with(b"\r\n").then_some(2)?;
    }
    loop {
        let line = line_from(data, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((read, at));
        }
    }
}

fn line_from(data: &[u8], at: usize) -> Option<&[u8]> {
    let rest = data.get(at..)?;
    Some(&rest[..rest.windows(2).position(|w| w == b"\r\n")?])
}

fn reads_back(data: &[u8]) {
    let mut encoder = BodyEncoder::Chunked;
    let mut wire = Vec::new();
    for piece in data.chunks((data.len() % 256).max(1)) {
        let mut encoded = encoder.encode(Bytes::copy_from_slice(piece)).unwrap();
        wire.extend_from_slice(&encoded.copy_to_bytes(encoded.remaining()));
    }
    wire.extend_from_slice(encoder.end().unwrap());
    assert_eq!(decode(&wire, wire.len()), (data.to_vec(), Ok(true), Vec::new()));
}
