//! The normal form of a target, which links sign: clients, mail programs and chats spell the same URL in several ways.

use std::borrow::Cow;

use percent_encoding::{percent_decode, percent_encode_byte};

/// Returns the target in its normal form.
///
/// In the path, whose segments contain no escaped separator or dot (`SafePath` refuses those), an escape and the character itself are
/// equivalent: `%5B` and `[`, or `%7e`, `%7E` and `~`. A semicolon keeps its spelling, since some applications end a segment there. In
/// the query `&`, `=`, `+` and `;` keep theirs as well, since they are separators only when unescaped.
#[must_use]
pub(super) fn normal_form(target: &str) -> Cow<'_, str> {
    if target.bytes().all(|b| is_unreserved(b) || matches!(b, b'/' | b'?' | b'&' | b'=')) && !twice(target, b'?') {
        return Cow::Borrowed(target);
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut normal = String::with_capacity(target.len() * 2);
    write_normal(&mut normal, path, |b| matches!(b, b'/' | b';'));
    if let Some(query) = query {
        normal.push('?');
        write_normal(&mut normal, query, |b| matches!(b, b'&' | b'=' | b'+' | b';'));
    }
    Cow::Owned(normal)
}

/// Returns the target without an empty query: once the link parameters are appended, `/a?` and `/a` are the same target.
#[must_use]
pub fn without_empty_query(target: &str) -> &str {
    match target.split_once('?') {
        Some((path, "")) => path,
        Some(_) | None => target,
    }
}

fn twice(text: &str, byte: u8) -> bool {
    text.bytes().filter(|b| *b == byte).nth(1).is_some()
}

/// Writes unreserved bytes and unescaped separators as they are, and everything else as an escape.
fn write_normal(normal: &mut String, text: &str, separates: impl Fn(u8) -> bool) {
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, escaped, after) = match rest.get(..3).and_then(escape) {
            Some(byte) => (byte, true, rest.get(3..).unwrap_or_default()),
            None => (*first, false, after),
        };
        if is_unreserved(byte) || (!escaped && separates(byte)) {
            normal.push(char::from(byte));
        } else {
            normal.push_str(percent_encode_byte(byte));
        }
        rest = after;
    }
}

/// Decodes one escape.
fn escape(text: &[u8]) -> Option<u8> {
    match &*Cow::from(percent_decode(text)) {
        [byte] => Some(*byte),
        _ => None,
    }
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_target_have_one_normal_form() {
        for spellings in [
            &["/a/[b].mp4", "/a/%5Bb%5D.mp4", "/a/%5bb%5d.mp4", "/%61/[b%5D%2Emp4"][..],
            &["/~a", "/%7Ea", "/%7ea"],
            &["/it's(1)!*.mp4", "/it%27s%281%29%21%2A.mp4", "/it%27s(1)!*.mp4"],
            &["/caf%C3%A9%20x", "/caf%c3%a9%20x"],
            &["/a@b:c,d+e&f=g$h|i", "/a%40b%3Ac%2Cd%2Be%26f%3Dg%24h%7Ci"],
            &["/100%25", "/%3100%25"],
            &["/a?ids=1,2&q=[x]", "/a?ids=1%2C2&q=%5bx%5D"],
            &["/a?at=1:2/3?", "/a?at=1%3A2%2F3%3F"],
        ] {
            let normal = normal_form(spellings[0]);
            assert!(spellings.iter().all(|s| normal_form(s) == normal), "{spellings:?}");
            assert_eq!(normal_form(&normal), normal, "a normal form is its own normal form");
        }
    }

    #[test]
    fn different_targets_have_different_normal_forms() {
        for (one, other) in [
            ("/a;b", "/a%3Bb"),
            ("/a?b=c%26d=e", "/a?b=c&d=e"),
            ("/a?b=c%2Bd", "/a?b=c+d"),
            ("/a?b%3Dc", "/a?b=c"),
            ("/a?b=%2525", "/a?b=%25"),
            ("/a%3Fb", "/a?b"),
            ("/A", "/a"),
            ("/a%2525", "/a%25"),
            ("/a%E2%84%AB", "/a%C3%85"),
            ("/a/", "/a"),
            ("/a?", "/a"),
        ] {
            assert_ne!(normal_form(one), normal_form(other), "{one} {other}");
        }
    }
}
