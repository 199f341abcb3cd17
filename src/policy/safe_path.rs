//! Paths that mean one thing to every reader; whatever could mean two is refused, nothing is repaired.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// The longest path, in bytes as sent.
const MAX_BYTES: usize = 8 * 1024;
/// What is still not at its end after so many decodings was made to mislead.
const MAX_DECODINGS: usize = 4;

/// A path that was judged: its bytes as sent, which are what the upstream gets, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafePath<'a> {
    raw: &'a str,
    decoded: Cow<'a, str>,
}

/// Whether a path may hold `;` parameters, which some applications need and others strip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// No.
    #[default]
    Refuse,
    /// Yes.
    Allow,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UnsafePath {
    /// Not from the root, or too long.
    #[error("the path does not start with a slash or is too long")]
    Shape,
    /// A byte that RFC 3986 does not allow in a path, a backslash or raw non-ASCII among them.
    #[error("a character that must not stand in a path")]
    Character,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("a malformed escape")]
    Escape,
    /// An escaped separator, dot or control character, once or more than once.
    #[error("an escaped separator, dot or control character")]
    EscapedSyntax,
    /// Bytes that are not UTF-8; overlong forms are not.
    #[error("not UTF-8")]
    Encoding,
    /// An empty segment, `.` or `..`.
    #[error("an empty or dot segment")]
    Segment,
    /// A `;` where the policy has none.
    #[error("a path parameter")]
    Parameter,
    /// A character whose compatibility form is a separator, a dot segment or an escape of one.
    #[error("a character that another reader may take for a separator")]
    Lookalike,
}

impl<'a> SafePath<'a> {
    /// Judges the path of a request target, as sent, without its query.
    pub fn parse(raw: &'a str, parameters: Parameters) -> Result<Self, UnsafePath> {
        if !raw.starts_with('/') || raw.len() > MAX_BYTES {
            return Err(UnsafePath::Shape);
        }
        if raw.bytes().any(|b| !is_path_byte(b)) {
            return Err(UnsafePath::Character);
        }
        if parameters == Parameters::Refuse && raw.contains(';') {
            return Err(UnsafePath::Parameter);
        }
        let decoded = if raw.contains('%') { Cow::Owned(decode(raw)?) } else { Cow::Borrowed(raw) };
        judge_segments(&decoded)?;
        if !decoded.is_ascii() {
            judge_lookalikes(&decoded)?;
        }
        Ok(Self { raw, decoded })
    }

    /// The path as sent.
    #[must_use]
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// True when a segment has `;` parameters as sent.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        self.raw.contains(';')
    }

    /// What it says; no segment of it holds a separator.
    #[must_use]
    pub fn decoded(&self) -> &str {
        &self.decoded
    }
}

/// RFC 3986, section 3.3: `pchar` and the slash; and `[`, `]`, `|`, which browsers send as they are.
const fn is_path_byte(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')'
        | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/' | b'%' | b'[' | b']' | b'|')
}

fn decode(raw: &str) -> Result<String, UnsafePath> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(UnsafePath::Escape) };
        let byte = hex_pair(*high, *low).ok_or(UnsafePath::Escape)?;
        if is_syntax(byte) {
            return Err(UnsafePath::EscapedSyntax);
        }
        bytes.push(byte);
        rest = tail;
    }
    let decoded = String::from_utf8(bytes).map_err(|_| UnsafePath::Encoding)?;
    if decoded.chars().any(char::is_control) || holds_dangerous_escape(&decoded) {
        return Err(UnsafePath::EscapedSyntax);
    }
    Ok(decoded)
}

/// What no escape may stand for: it changes where a path leads once somebody decodes it.
const fn is_syntax(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || matches!(byte, b'/' | b'\\' | b'.')
}

/// True when decoding again, however often, would make syntax, another escape, or the first byte of an overlong form.
///
/// A lone `%` in a title is data, and so is `%Fa`; `%2e` is not, and nor is `%2%65`, whose last digit is escaped itself.
fn holds_dangerous_escape(decoded: &str) -> bool {
    let mut bytes = Cow::Borrowed(decoded.as_bytes());
    for _ in 0..MAX_DECODINGS {
        if stands_for_syntax(&bytes) {
            return true;
        }
        // Borrowed where there was nothing to decode.
        match Cow::from(percent_decode(&bytes)) {
            Cow::Borrowed(_) => return false,
            Cow::Owned(next) => bytes = Cow::Owned(next),
        }
    }
    true
}

fn stands_for_syntax(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|window| match window {
        [b'%', high, low] => {
            hex_pair(*high, *low).is_some_and(|b| is_syntax(b) || matches!(b, b'%' | b';' | 0xc0 | 0xc1 | 0xe0 | 0xf0))
        }
        _ => false,
    })
}

/// A final slash ends a path and is no segment.
fn judge_segments(decoded: &str) -> Result<(), UnsafePath> {
    let inner = decoded.strip_prefix('/').unwrap_or(decoded);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() && decoded.len() == 1 {
        return Ok(());
    }
    let dots = |segment: &str| segment.split(';').next().unwrap_or("").bytes().all(|b| b == b'.');
    let bad = |segment: &str| segment.is_empty() || dots(segment);
    if inner.split('/').any(bad) { Err(UnsafePath::Segment) } else { Ok(()) }
}

fn judge_lookalikes(decoded: &str) -> Result<(), UnsafePath> {
    for segment in decoded.split('/') {
        let folded: String = segment.nfkc().collect();
        let dots = !folded.is_empty() && folded.trim().bytes().all(|b| b == b'.');
        if dots || folded.contains(['/', '\\']) || holds_dangerous_escape(&folded) {
            return Err(UnsafePath::Lookalike);
        }
    }
    Ok(())
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<SafePath<'_>, UnsafePath> {
        SafePath::parse(raw, Parameters::Refuse)
    }

    const REFUSED: &[&str] = &[
        "/..",
        "/../etc",
        "/a/../b",
        "/a/..",
        "/./a",
        "/a/./b",
        "/a/.",
        "/...",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/%2e%2e/a",
        "/%2E./a",
        "/.%2e/a",
        "/%252e%252e/a",
        "/%25252e/a",
        "/a%2fb",
        "/a%2Fb",
        "/a%252fb",
        "/..%2f",
        "/a\\b",
        "/a%5cb",
        "/a%5Cb",
        "/a%255cb",
        "/%c0%ae%c0%ae/a",
        "/%c0%af",
        "/%e0%80%ae/a",
        "/%25c0%25ae/a",
        "/%u002e%u002e/a",
        "/a%00b",
        "/a%0ab",
        "/a%0d%0ab",
        "/a%7fb",
        "/a%2500",
        "/..;/a",
        "/a;b=c/d",
        "/a%",
        "/a%2",
        "/a%zz",
        "/é",
        "/a b",
        "/a\tb",
        "/a\u{0}b",
        "/%ff",
        "/%ed%a0%80",
        "/%ef%bc%8e%ef%bc%8e/a",
        "/%e2%80%a5/a",
        "/a%ef%bc%8fb",
        "/a%ef%bc%bcb",
        "/a%c2%85b",
        "/%e2%84%80%ef%bc%8f",
        "/a%ef%bc%852e",
        "a",
        "",
        "*",
        "/a#b",
        "/a?b",
        "/a<b",
        "/a\"b",
        "/a{b",
        "/a^b",
        "/a`b",
        "/%25%32%65/a",
        "/%252%2565%252%2565/a",
        "/%252%25%36%35/a",
    ];

    #[test]
    fn every_spelling_of_traversal_is_refused() {
        for raw in REFUSED {
            assert!(parse(raw).is_err(), "{raw:?} was taken for {:?}", parse(raw));
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(8 * 1024))), Err(UnsafePath::Shape));
    }

    #[test]
    fn titles_as_people_write_them_pass_byte_for_byte() {
        for (raw, decoded) in [
            ("/", "/"),
            ("/api/downloads", "/api/downloads"),
            ("/a/", "/a/"),
            ("/a%23b%3Fc.mp4", "/a#b?c.mp4"),
            ("/100%25%20real.mp4", "/100% real.mp4"),
            ("/100%25Fail.mp4", "/100%Fail.mp4"),
            ("/Title%20[id].mp4", "/Title [id].mp4"),
            ("/caf%C3%A9%20%F0%9F%8E%AC.mp4", "/café 🎬.mp4"),
            ("/Wait%E2%80%A6%20what.mp4", "/Wait… what.mp4"),
            ("/a%E2%A7%B8b.mp4", "/a⧸b.mp4"),
            ("/%E0%A4%B9%E0%A4%BF.mp4", "/हि.mp4"),
            ("/.hidden", "/.hidden"),
            ("/a..b", "/a..b"),
            ("/a%3Bb", "/a;b"),
        ] {
            let path = parse(raw);
            assert_eq!(path.as_ref().map(|p| (p.raw(), p.decoded())), Ok((raw, decoded)));
        }
    }

    #[test]
    fn parameters_pass_where_the_policy_has_them() {
        assert_eq!(parse("/a;v=1"), Err(UnsafePath::Parameter));
        assert!(SafePath::parse("/a;v=1", Parameters::Allow).is_ok());
        assert!(SafePath::parse("/..;v=1", Parameters::Allow).is_err());
    }
}
