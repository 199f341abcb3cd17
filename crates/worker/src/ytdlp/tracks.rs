//! Combines the progress of a download's tracks, such as separate video and audio.

use serde::Deserialize;

use crate::tasks::progress::Progress;

/// The tracks in the order in which they are fetched, and how many of them are complete.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tracks {
    all: Vec<Track>,
    done: usize,
    bytes_done: u64,
}

/// What is known of a track before it is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Track {
    filesize: Option<f64>,
    filesize_approx: Option<f64>,
    /// In kilobits per second.
    tbr: Option<f64>,
}

impl Tracks {
    pub(super) fn new(all: Vec<Track>) -> Self {
        Self { all, ..Self::default() }
    }

    /// Takes the progress of the current track and returns that of the whole download.
    pub(crate) fn advance(&mut self, track: Progress) -> Progress {
        let rest = self.bytes_to_come();
        let overall = Progress {
            percent: self.percent(track),
            downloaded: self.bytes_done.saturating_add(track.downloaded),
            total: track.total.zip(rest).map(|(own, rest)| self.bytes_done.saturating_add(own).saturating_add(rest)),
            eta: track.eta.zip(rest).map(|(own, rest)| own + seconds_for(rest, track.speed)),
            ..track
        };
        if track.finished {
            self.done += 1;
            self.bytes_done = overall.downloaded;
        }
        overall
    }

    fn percent(&self, track: Progress) -> f64 {
        let weights = self.weights();
        let before: f64 = weights.iter().take(self.done).sum();
        let own = weights.get(self.done).copied().unwrap_or_default();
        let fraction = if track.finished { 1.0 } else { track.percent / 100.0 };
        ((before + own * fraction) / weights.iter().sum::<f64>() * 100.0).clamp(0.0, 100.0)
    }

    /// The weight of each track: its size, or else its bit rate, or else the same for all.
    fn weights(&self) -> Vec<f64> {
        // yt-dlp may fetch more tracks than it has announced.
        let count = self.all.len().max(self.done + 1);
        let known = |value: fn(&Track) -> Option<f64>| {
            let values = self.all.iter().map(|track| value(track).filter(|v| v.is_finite() && *v > 0.0));
            values.collect::<Option<Vec<f64>>>().filter(|values| values.len() == count)
        };
        known(Track::size).or_else(|| known(|track| track.tbr)).unwrap_or_else(|| vec![1.0; count])
    }

    /// The total size of the tracks after the current one, if known.
    fn bytes_to_come(&self) -> Option<u64> {
        let sizes = self.all.iter().skip(self.done + 1).map(Track::size);
        sizes.map(super::event::to_bytes).try_fold(0_u64, |sum, size| Some(sum.saturating_add(size?)))
    }
}

/// Returns how many seconds `bytes` take at this speed.
fn seconds_for(bytes: u64, speed: Option<f64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    speed.filter(|speed| *speed > 0.0).map_or(0.0, |speed| bytes as f64 / speed)
}

impl Track {
    fn size(&self) -> Option<f64> {
        self.filesize.or(self.filesize_approx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(percent: f64, downloaded: u64, total: u64) -> Progress {
        Progress { percent, downloaded, total: Some(total), ..Progress::default() }
    }

    fn shown(mut tracks: Tracks) -> Vec<(f64, u64, Option<u64>)> {
        let lines = [
            at(50.0, 300, 600),
            Progress { finished: true, ..at(100.0, 600, 600) },
            at(0.0, 0, 200),
            at(50.0, 100, 200),
            Progress { finished: true, ..at(100.0, 200, 200) },
        ];
        lines.map(|line| tracks.advance(line)).map(|p| (p.percent, p.downloaded, p.total)).to_vec()
    }

    fn of_sizes(sizes: &[f64]) -> Tracks {
        Tracks::new(sizes.iter().map(|size| Track { filesize: Some(*size), ..Track::default() }).collect())
    }

    #[test]
    fn two_tracks_are_one_download() {
        let whole = Some(800);
        let expected =
            [(37.5, 300, whole), (75.0, 600, whole), (75.0, 600, whole), (87.5, 700, whole), (100.0, 800, whole)];
        assert_eq!(shown(of_sizes(&[600.0, 200.0])), expected);
    }

    #[test]
    fn without_sizes_tracks_count_by_bit_rate_and_without_those_equally() {
        let percents = |rates: [Option<f64>; 2]| {
            let tracks = rates.map(|tbr| Track { tbr, ..Track::default() });
            shown(Tracks::new(tracks.to_vec())).into_iter().map(|(percent, ..)| percent).collect::<Vec<_>>()
        };
        assert_eq!(percents([Some(300.0), Some(100.0)]), [37.5, 75.0, 75.0, 87.5, 100.0]);
        assert_eq!(percents([None, None]), [25.0, 50.0, 50.0, 75.0, 100.0]);
        assert_eq!(percents([Some(300.0), None]), [25.0, 50.0, 50.0, 75.0, 100.0]);
    }

    #[test]
    fn the_time_left_covers_the_tracks_to_come() {
        let now = Progress { speed: Some(100.0), eta: Some(3.0), ..at(50.0, 300, 600) };
        assert_eq!(of_sizes(&[600.0, 200.0]).advance(now).eta, Some(5.0));
        assert_eq!(Tracks::default().advance(now), now, "the progress of a single file is unchanged");
    }

    #[test]
    fn a_track_that_was_not_announced_counts_as_well() {
        let mut tracks = Tracks::default();
        tracks.advance(Progress { finished: true, ..at(100.0, 600, 600) });
        assert!(tracks.advance(at(50.0, 100, 200)).percent < 100.0);
    }
}
