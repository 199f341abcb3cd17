//! Byte ranges (RFC 9110, section 14): the part of a file that a request asks for.

/// The part of a representation to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedRange {
    /// All of it: the request has no range, or one that is ignored.
    Whole,
    /// One range, never empty.
    Single(ByteRange),
    /// At least two ranges, which do not overlap and are in the order of the request.
    Multiple(Vec<ByteRange>),
    /// Every requested range lies outside the file.
    Unsatisfiable,
}

/// Consecutive bytes within a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The position of the first byte, from 0.
    pub first: u64,
    /// The position of the last byte, inclusive; at least `first`.
    pub last: u64,
}

/// One range of a request.
enum RangeSpec {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

/// The maximum number of ranges in one request. With more, the whole file is sent.
const MAX_RANGES: usize = 16;

impl ByteRange {
    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub(crate) fn len(self) -> u64 {
        self.last - self.first + 1
    }
}

impl RequestedRange {
    /// Evaluates a `Range` value for a file of `length` bytes.
    ///
    /// A server may ignore a range (section 14.2). This one ignores too many ranges, overlapping ranges and anything outside the grammar.
    #[must_use]
    pub fn of(range: Option<&str>, length: u64) -> Self {
        let Some(specs) = range.and_then(parse) else { return Self::Whole };
        let slices: Vec<ByteRange> = specs.iter().filter_map(|spec| spec.within(length)).collect();
        match *slices {
            [] => Self::Unsatisfiable,
            [slice] => Self::Single(slice),
            _ if overlap(&slices) => Self::Whole,
            _ => Self::Multiple(slices),
        }
    }
}

impl RangeSpec {
    /// Returns the part of the range that lies within a file of `length` bytes.
    fn within(&self, length: u64) -> Option<ByteRange> {
        let (first, last) = match *self {
            Self::From(first) => (first, u64::MAX),
            Self::Between(first, last) => (first, last),
            Self::Last(0) => return None,
            Self::Last(count) => (length.saturating_sub(count), u64::MAX),
        };
        (first < length).then(|| ByteRange { first, last: last.min(length - 1) })
    }
}

fn overlap(slices: &[ByteRange]) -> bool {
    let mut others = slices.iter();
    while let Some(slice) = others.next() {
        if others.clone().any(|other| slice.overlaps(*other)) {
            return true;
        }
    }
    false
}

fn parse(value: &str) -> Option<Vec<RangeSpec>> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // List members may be empty (section 5.6.1).
    let members = set.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    let specs: Vec<RangeSpec> = members.map(one).collect::<Option<_>>()?;
    (1..=MAX_RANGES).contains(&specs.len()).then_some(specs)
}

fn one(member: &str) -> Option<RangeSpec> {
    match member.split_once('-')? {
        ("", count) => number(count).map(RangeSpec::Last),
        (first, "") => number(first).map(RangeSpec::From),
        (first, last) => {
            let first = number(first)?;
            let last = number(last)?;
            (first <= last).then_some(RangeSpec::Between(first, last))
        }
    }
}

/// Parses digits only; a number beyond `u64` is clamped to the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str) -> RequestedRange {
        RequestedRange::of(Some(range), 100)
    }

    fn slice(first: u64, last: u64) -> RequestedRange {
        RequestedRange::Single(ByteRange { first, last })
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
            assert_eq!(of(range), RequestedRange::Unsatisfiable, "{range}");
        }
        assert_eq!(RequestedRange::of(Some("bytes=-5"), 0), RequestedRange::Unsatisfiable);
    }

    #[test]
    fn rfc9110_14_1_2_several_ranges() {
        let several = |range: &str| {
            let RequestedRange::Multiple(slices) = of(range) else { return Vec::new() };
            slices.iter().map(|s| (s.first, s.last)).collect()
        };
        assert_eq!(several("bytes=0-1,5-6"), [(0, 1), (5, 6)]);
        assert_eq!(several("bytes= -1 , ,0-0,"), [(99, 99), (0, 0)]);
        assert_eq!(several("bytes=0-1,2-3,200-,-0"), [(0, 1), (2, 3)]);
        assert_eq!(of("bytes=0-1,200-300"), slice(0, 1));
        assert_eq!(of("bytes=100-,200-300"), RequestedRange::Unsatisfiable);
    }

    #[test]
    fn rfc9110_17_15_many_or_overlapping_ranges_get_the_whole_file() {
        assert_eq!(of("bytes=0-5,5-6"), RequestedRange::Whole);
        assert_eq!(of("bytes=50-60,0-,70-71"), RequestedRange::Whole);
        assert_eq!(of("bytes=-100,0-0"), RequestedRange::Whole);
        let many = |count: u64| (0..count).map(|i| format!("{i}-{i}")).collect::<Vec<_>>().join(",");
        assert!(matches!(of(&format!("bytes={}", many(16))), RequestedRange::Multiple(_)));
        assert_eq!(of(&format!("bytes={}", many(17))), RequestedRange::Whole);
    }

    #[test]
    fn rfc9110_14_2_a_malformed_range_is_ignored() {
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
            "bytes=,",
            "bytes=0-1,x",
            "bytes=0-1;5-6",
            "items=0-5",
            "bytes:0-5",
            "bytes=1 - 2",
            "0-5",
        ] {
            assert_eq!(of(range), RequestedRange::Whole, "{range}");
        }
        assert_eq!(RequestedRange::of(None, 100), RequestedRange::Whole);
    }
}
