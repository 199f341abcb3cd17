//! Videos that are announced: their download waits for them, and costs no try.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// No wait is longer. What is announced may be put forward, and a clock may be set.
const LONGEST: Duration = Duration::from_hours(1);
/// After its time; and how soon what should have begun is looked for again.
const AFTER: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(30);
/// A premiere is live before it is a video that can be downloaded.
const WHILE_LIVE: Duration = Duration::from_mins(10);
/// Longer than this nothing waits for its time, from its order on.
const PATIENCE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How the message of a waiting task begins.
const WORDS: &str = "announced";

/// Why a download waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// It begins at this time, where that is known.
    Begins(Option<Timestamp>),
    /// It has begun, and is not over.
    Live,
}

impl Awaited {
    /// By yt-dlp's account, in seconds of the Unix clock.
    pub(crate) fn at(seconds: Option<f64>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and what is no time is none")]
        let begins = seconds.filter(|s| s.is_finite()).and_then(|s| Timestamp::from_second(s as i64).ok());
        Self::Begins(begins)
    }

    /// How long until the next look; none where it was waited for long enough.
    pub(crate) fn wait(self, ordered: Timestamp, now: Timestamp) -> Option<Duration> {
        let until = match self {
            Self::Live => WHILE_LIVE,
            Self::Begins(None) => LONGEST,
            Self::Begins(Some(at)) if at.duration_since(ordered) > PATIENCE => return None,
            Self::Begins(Some(at)) => Duration::try_from(at.duration_since(now)).map_or(AGAIN, |left| left + AFTER),
        };
        (now.duration_since(ordered) <= PATIENCE).then_some(until.min(LONGEST))
    }

    /// What the task's owner is told meanwhile.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Begins(Some(at)) => format!("{WORDS}: begins at {at:.0} and is downloaded then"),
            Self::Begins(None) => format!("{WORDS}: has not begun and is downloaded when it has"),
            Self::Live => format!("{WORDS}: is live now and is downloaded when it has ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_video_is_looked_for_at_its_time_and_once_an_hour_before() {
        let (ordered, now) = (time("2026-01-01T00:00:00Z"), time("2026-01-02T00:00:00Z"));
        let wait = |at: &str| Awaited::Begins(Some(time(at))).wait(ordered, now).map(|wait| wait.as_secs());
        assert_eq!(wait("2026-01-02T00:10:00Z"), Some(601));
        assert_eq!(wait("2026-01-05T00:00:00Z"), Some(3600));
        assert_eq!(wait("2026-01-01T23:00:00Z"), Some(30), "it should have begun");
        assert_eq!(wait("2026-03-01T00:00:00Z"), None, "too far");
        assert_eq!(Awaited::Begins(None).wait(ordered, now).unwrap().as_secs(), 3600);
        assert_eq!(Awaited::Live.wait(ordered, now).unwrap().as_secs(), 600);
        assert_eq!(Awaited::Live.wait(ordered, time("2026-02-02T00:00:00Z")), None, "long enough");
    }

    #[test]
    fn times_that_are_none_are_not_known() {
        for seconds in [None, Some(f64::NAN), Some(1e300), Some(-1e300)] {
            assert_eq!(Awaited::at(seconds), Awaited::Begins(None));
        }
        assert_eq!(
            Awaited::at(Some(0.0)).message(),
            "announced: begins at 1970-01-01T00:00:00Z and is downloaded then"
        );
    }
}
