//! Human-readable durations ("10s"), sizes ("32KiB") and rates ("5/minute").

use std::{fmt, num::NonZeroU32, str::FromStr, time};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A span of time: "90s", "1h 30m", "7d" (24 hours a day).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub time::Duration);

/// A number of bytes: "64KiB", "20GiB", "1000".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Events per period: "5/minute", "100/10s".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of events.
    pub count: NonZeroU32,
    /// The period.
    pub per: time::Duration,
}

/// A text that is not a duration.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a duration; write a number and a unit, such as \"10s\", \"5m\", \"1h\" or \"7d\"")]
pub struct DurationParseError(String);

/// A text that is not a size.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a size; write a number and a unit, such as \"64KiB\", \"10MiB\" or \"2GiB\"")]
pub struct SizeParseError(String);

/// A text that is not a rate.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a rate; write a count above zero and a period, such as \"5/minute\", \"10/second\" or \"100/10s\""
)]
pub struct RateParseError(String);

impl Duration {
    pub(super) const fn seconds(count: u64) -> Self {
        Self(time::Duration::from_secs(count))
    }
}

impl Rate {
    /// Creates a rate of `count` per minute; zero counts as one.
    #[must_use]
    pub fn per_minute(count: u32) -> Self {
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Self { count, per: time::Duration::from_mins(1) }
    }
}

impl FromStr for Duration {
    type Err = DurationParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationParseError(text.to_owned());
        let days = text.strip_suffix('d').and_then(|n| n.trim().parse::<u32>().ok());
        if let Some(days) = days {
            return Ok(Self(time::Duration::from_secs(u64::from(days) * 86_400)));
        }
        let signed: jiff::SignedDuration = text.parse().map_err(|_| error())?;
        time::Duration::try_from(signed).map(Self).map_err(|_| error())
    }
}

impl FromStr for ByteSize {
    type Err = SizeParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<bytesize::ByteSize>().map(|b| Self(b.as_u64())).map_err(|_| SizeParseError(text.to_owned()))
    }
}

impl FromStr for Rate {
    type Err = RateParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || RateParseError(text.to_owned());
        let (count, per) = text.split_once('/').ok_or_else(error)?;
        let count = count.trim().parse().map_err(|_| error())?;
        let per = match per.trim() {
            "second" => time::Duration::from_secs(1),
            "minute" => time::Duration::from_mins(1),
            "hour" => time::Duration::from_hours(1),
            "day" => time::Duration::from_hours(24),
            other => other.parse::<Duration>().map_err(|_| error())?.0,
        };
        if per.is_zero() { Err(error()) } else { Ok(Self { count, per }) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds, self.0.subsec_millis()) {
            (s, 0) if s > 0 && s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            (s, 0) if s > 0 && s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            (s, 0) if s > 0 && s % 60 == 0 => write!(f, "{}m", s / 60),
            (s, 0) => write!(f, "{s}s"),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/second", self.count),
            60 => write!(f, "{}/minute", self.count),
            3_600 => write!(f, "{}/hour", self.count),
            86_400 => write!(f, "{}/day", self.count),
            _ => write!(f, "{}/{}", self.count, Duration(self.per)),
        }
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

serde_as_text!(Duration, ByteSize, Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_values_parse_back() {
        for text in ["500ms", "10s", "5m", "1h", "7d"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        for text in ["100", "32KiB", "10MiB", "20GiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["5/minute", "10/second", "3/hour", "9/day", "100/10s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_values_are_refused() {
        assert!(["", "10", "-5s", "soon"].iter().all(|t| t.parse::<Duration>().is_err()));
        assert!(["", "-1", "lots"].iter().all(|t| t.parse::<ByteSize>().is_err()));
        assert!(
            ["", "5", "0/minute", "-1/minute", "5/", "5/0s", "5/fortnight"].iter().all(|t| t.parse::<Rate>().is_err())
        );
    }
}
