//! Paths that every parser reads the same way. An ambiguous path is refused, never repaired.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// The longest path, in bytes as sent.
const MAX_BYTES: usize = 8 * 1024;
/// A path that is still not fully decoded after this many rounds was made to mislead.
const MAX_DECODINGS: usize = 4;

/// A judged path: the bytes as sent, which the upstream receives, and their decoded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafePath<'a> {
    raw: &'a str,
    decoded: Cow<'a, str>,
    /// The first oddity that is acceptable only in a file name.
    odd: Option<UnsafePath>,
}

/// Which characters the names in a path may contain.
///
/// A title may contain characters that a few parsers treat as separators: `／` and `＼`, whose compatibility forms are separators, `℅`,
/// whose compatibility form contains one, and the C1 control characters. They are safe if the application decodes the path once and
/// opens a file of exactly that name; a route declares this with `file_names`. The forwarded path is byte for byte the judged one, with
/// all such characters escaped, so no intermediary sees one; an application would have to normalise its own file names to be misled.
/// Even then no `..` results: every route refuses a name that normalises to a dot segment, and a name that yields a separator, a dot
/// or a control character when it is decoded again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// None of these characters.
    #[default]
    Plain,
    /// The characters of titles.
    Titles,
}

/// Whether a path may contain `;` parameters, which some applications need and others strip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// They are refused.
    #[default]
    Refuse,
    /// They are allowed.
    Allow,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UnsafePath {
    /// Not absolute, or too long.
    #[error("the path does not start with a slash or is too long")]
    Shape,
    /// A byte that RFC 3986 does not allow in a path, such as a backslash or unescaped non-ASCII.
    #[error("a character that is not allowed in a path")]
    Character,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("a malformed escape")]
    Escape,
    /// A separator, dot or control character that is escaped once or several times.
    #[error("an escaped separator, dot or control character")]
    EscapedSyntax,
    /// Bytes that are not UTF-8, including overlong forms.
    #[error("not UTF-8")]
    Encoding,
    /// An empty segment, `.` or `..`.
    #[error("an empty or dot segment")]
    Segment,
    /// A `;`, if the policy allows none.
    #[error("a path parameter")]
    Parameter,
    /// A character whose compatibility form is a separator, a dot segment or an escape of one.
    #[error("a character that another parser may treat as a separator")]
    Lookalike,
}

impl<'a> SafePath<'a> {
    /// Judges the path of a request target, as sent and without its query, for a route with [`Names::Plain`].
    pub fn parse(raw: &'a str, parameters: Parameters) -> Result<Self, UnsafePath> {
        let path = Self::read(raw, parameters)?;
        path.judge_names(Names::Plain)?;
        Ok(path)
    }

    /// Judges everything that does not depend on the route; call [`Self::judge_names`] once the route is known.
    pub fn read(raw: &'a str, parameters: Parameters) -> Result<Self, UnsafePath> {
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
        let odd = if decoded.is_ascii() { None } else { oddity(&decoded)? };
        Ok(Self { raw, decoded, odd })
    }

    /// Judges the characters that are acceptable only in a file name.
    pub fn judge_names(&self, names: Names) -> Result<(), UnsafePath> {
        match (names, self.odd) {
            (Names::Plain, Some(odd)) => Err(odd),
            (Names::Plain, None) | (Names::Titles, Some(_) | None) => Ok(()),
        }
    }

    /// Returns the path as sent.
    #[must_use]
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Returns true if a segment has `;` parameters, as sent.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        self.raw.contains(';')
    }

    /// Returns the decoded path; no segment of it contains a separator.
    #[must_use]
    pub fn decoded(&self) -> &str {
        &self.decoded
    }
}

/// RFC 3986, section 3.3: `pchar` and the slash; also `[`, `]` and `|`, which browsers do not escape.
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
    if holds_dangerous_escape(&decoded) { Err(UnsafePath::EscapedSyntax) } else { Ok(decoded) }
}

/// Bytes that must not be escaped: decoding them changes where a path leads.
const fn is_syntax(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || matches!(byte, b'/' | b'\\' | b'.')
}

/// Returns true if decoding again, any number of times, would produce syntax or an overlong form.
///
/// A `%` in a title is data, and so are `%Fa`, `%25` and `%F0%9F%8E%AC`, whatever they become when decoded further; `%2e` is not, and
/// neither is `%2%65`, whose last digit is itself escaped.
fn holds_dangerous_escape(decoded: &str) -> bool {
    let mut bytes = Cow::Borrowed(decoded.as_bytes());
    for _ in 0..MAX_DECODINGS {
        if stands_for_syntax(&bytes) || is_overlong(&bytes) {
            return true;
        }
        // Borrowed if there was nothing to decode.
        match Cow::from(percent_decode(&bytes)) {
            Cow::Borrowed(_) => return false,
            Cow::Owned(next) => bytes = Cow::Owned(next),
        }
    }
    true
}

fn stands_for_syntax(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|window| match window {
        [b'%', high, low] => hex_pair(*high, *low).is_some_and(|b| is_syntax(b) || b == b';'),
        _ => false,
    })
}

/// Returns true for bytes that a lenient UTF-8 decoder may read as a character with a shorter form (RFC 3629, section 10). Escaped
/// ones are found here after they are decoded.
fn is_overlong(bytes: &[u8]) -> bool {
    let overlong = |pair: &[u8]| matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]);
    bytes.iter().any(|b| matches!(b, 0xc0 | 0xc1)) || bytes.windows(2).any(overlong)
}

/// A final slash ends the path and does not start an empty segment.
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

/// Returns an oddity that is acceptable only in a file name, or an error for one that is never acceptable.
fn oddity(decoded: &str) -> Result<Option<UnsafePath>, UnsafePath> {
    // The only control characters left are the ones above ASCII.
    let mut odd = decoded.chars().any(char::is_control).then_some(UnsafePath::EscapedSyntax);
    for segment in decoded.split('/') {
        let folded: String = segment.nfkc().collect();
        let dots = |part: &str| !part.trim().is_empty() && part.trim().bytes().all(|b| b == b'.');
        if folded.split(['/', '\\']).any(dots) {
            return Err(UnsafePath::Lookalike);
        }
        if folded.contains(['/', '\\']) || holds_dangerous_escape(&folded) {
            odd = Some(UnsafePath::Lookalike);
        }
    }
    Ok(odd)
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
#[path = "safe_path_tests.rs"]
mod tests;
