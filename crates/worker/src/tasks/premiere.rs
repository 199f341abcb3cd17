//! Announced videos: their download waits until they are available, without using up a retry.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The longest wait between two checks. The start may be moved forward, and the clock may be set.
const MAX_INTERVAL: Duration = Duration::from_hours(1);
/// How long after the announced start to check.
const MARGIN: Duration = Duration::from_secs(1);
/// How soon to check again when the video should have begun and has not.
const OVERDUE_INTERVAL: Duration = Duration::from_secs(30);
/// How often to check while a premiere is live; it can be downloaded only afterwards.
const LIVE_INTERVAL: Duration = Duration::from_mins(10);
/// The longest that a task waits for its video, counted from its creation.
const MAX_WAIT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The prefix of a waiting task's message.
const PREFIX: &str = "announced";

/// What a download is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Premiere {
    /// The video begins at this time, if it is known.
    Begins(Option<Timestamp>),
    /// The video is live now.
    Live,
}

impl Premiere {
    /// Converts the start that yt-dlp reports, in seconds since the Unix epoch.
    pub(crate) fn at(seconds: Option<f64>) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and an invalid time becomes `None`")]
        let begins = seconds.filter(|s| s.is_finite()).and_then(|s| Timestamp::from_second(s as i64).ok());
        Self::Begins(begins)
    }

    /// Returns how long to wait until the next check, or `None` once the task has waited too long.
    pub(crate) fn wait(self, ordered: Timestamp, now: Timestamp) -> Option<Duration> {
        let until = match self {
            Self::Live => LIVE_INTERVAL,
            Self::Begins(None) => MAX_INTERVAL,
            Self::Begins(Some(at)) if at.duration_since(ordered) > MAX_WAIT => return None,
            Self::Begins(Some(at)) => {
                Duration::try_from(at.duration_since(now)).map_or(OVERDUE_INTERVAL, |left| left + MARGIN)
            }
        };
        (now.duration_since(ordered) <= MAX_WAIT).then_some(until.min(MAX_INTERVAL))
    }

    /// Returns the message that the task's owner sees in the meantime.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Begins(Some(at)) => format!("{PREFIX}: begins at {at:.0}; the download starts then"),
            Self::Begins(None) => format!("{PREFIX}: has not begun; the download starts when it does"),
            Self::Live => format!("{PREFIX}: is live now; the download starts when it has ended"),
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
    fn a_video_is_checked_at_its_start_and_once_an_hour_before() {
        let ordered = time("2026-01-01T00:00:00Z");
        let now = time("2026-01-02T00:00:00Z");
        let wait = |at: &str| Premiere::Begins(Some(time(at))).wait(ordered, now).map(|wait| wait.as_secs());
        assert_eq!(wait("2026-01-02T00:10:00Z"), Some(601));
        assert_eq!(wait("2026-01-05T00:00:00Z"), Some(3600));
        assert_eq!(wait("2026-01-01T23:00:00Z"), Some(30), "it should already have begun");
        assert_eq!(wait("2026-03-01T00:00:00Z"), None, "too far");
        assert_eq!(Premiere::Begins(None).wait(ordered, now).unwrap().as_secs(), 3600);
        assert_eq!(Premiere::Live.wait(ordered, now).unwrap().as_secs(), 600);
        assert_eq!(Premiere::Live.wait(ordered, time("2026-02-02T00:00:00Z")), None, "long enough");
    }

    #[test]
    fn invalid_times_count_as_unknown() {
        for seconds in [None, Some(f64::NAN), Some(1e300), Some(-1e300)] {
            assert_eq!(Premiere::at(seconds), Premiere::Begins(None));
        }
        assert_eq!(
            Premiere::at(Some(0.0)).message(),
            "announced: begins at 1970-01-01T00:00:00Z; the download starts then"
        );
    }
}
