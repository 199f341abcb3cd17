//! Byte ranges (RFC 9110, section 14): which part of a file a request is for.

/// What of a representation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it: no range was asked for, or one that is to be ignored.
    Whole,
    /// These bytes, never none.
    Slice(Slice),
    /// What was asked for lies outside.
    Unsatisfiable,
}

/// Consecutive bytes within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first of them, from 0.
    pub first: u64,
    /// Counted in, and at least `first`.
    pub last: u64,
}

/// One range as it was asked for.
enum Asked {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

impl Slice {
    pub(crate) fn len(self) -> u64 {
        self.last - self.first + 1
    }
}

impl Part {
    /// Judges a `Range` value against a file of `length` bytes.
    ///
    /// A server may ignore a range (section 14.2): several at once and what the grammar does not know are.
    #[must_use]
    pub fn of(range: Option<&str>, length: u64) -> Self {
        match range.and_then(parse) {
            None => Self::Whole,
            Some(Asked::From(first)) => Self::slice(first, u64::MAX, length),
            Some(Asked::Between(first, last)) => Self::slice(first, last, length),
            Some(Asked::Last(0)) => Self::Unsatisfiable,
            Some(Asked::Last(count)) => Self::slice(length.saturating_sub(count), u64::MAX, length),
        }
    }

    fn slice(first: u64, last: u64, length: u64) -> Self {
        if first >= length { Self::Unsatisfiable } else { Self::Slice(Slice { first, last: last.min(length - 1) }) }
    }
}

fn parse(value: &str) -> Option<Asked> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    match set.trim_matches([' ', '\t']).split_once('-')? {
        ("", count) => number(count).map(Asked::Last),
        (first, "") => number(first).map(Asked::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::Between(first, last))
        }
    }
}

/// Digits only; a number beyond all files is as good as the greatest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str) -> Part {
        Part::of(Some(range), 100)
    }

    fn slice(first: u64, last: u64) -> Part {
        Part::Slice(Slice { first, last })
    }

    #[test]
    fn rfc9110_14_1_2_single_ranges() {
        assert_eq!(of("bytes=0-0"), slice(0, 0));
        assert_eq!(of("bytes=10-19"), slice(10, 19));
        assert_eq!(of("bytes=10-"), slice(10, 99));
        assert_eq!(of("bytes=-10"), slice(90, 99));
        assert_eq!(of("bytes=0-99"), slice(0, 99));
        assert_eq!(of("BYTES= 0-9 "), slice(0, 9));
    }

    #[test]
    fn rfc9110_14_1_2_an_end_beyond_the_file_is_clamped() {
        assert_eq!(of("bytes=90-100"), slice(90, 99));
        assert_eq!(of("bytes=0-18446744073709551615"), slice(0, 99));
        assert_eq!(of("bytes=0-99999999999999999999999"), slice(0, 99));
        assert_eq!(of("bytes=-101"), slice(0, 99));
        assert_eq!(of("bytes=-99999999999999999999999"), slice(0, 99));
    }

    #[test]
    fn rfc9110_14_1_2_a_start_beyond_the_file_is_unsatisfiable() {
        for range in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(range), Part::Unsatisfiable, "{range}");
        }
        assert_eq!(Part::of(Some("bytes=-5"), 0), Part::Unsatisfiable);
    }

    #[test]
    fn rfc9110_14_2_what_is_malformed_or_several_is_ignored() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5",
            "bytes=9-5",
            "bytes=a-b",
            "bytes=0x1-2",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=0-1,5-6",
            "items=0-5",
            "bytes:0-5",
            "bytes=1 - 2",
            "0-5",
        ] {
            assert_eq!(of(range), Part::Whole, "{range}");
        }
        assert_eq!(Part::of(None, 100), Part::Whole);
    }
}
