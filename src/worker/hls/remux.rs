//! ffmpeg's part: what streams a file has, and the same streams in fragments of MP4, as they are.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    slice,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    RemuxError,
    folder::{INDEX, STREAM},
};
use crate::worker::{
    disk::Disks,
    sandbox::Allowance,
    ytdlp::{Bounds, Confined, DEMUXERS, End, Line, Run, Tools},
};

const MAX_LINE: usize = 4_096;
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// In seconds; ffmpeg cuts at the next picture that needs no other.
const SEGMENT: &str = "6";

/// What may be in fragments of MP4 and is played by somebody.
const CODECS: [&str; 10] = ["h264", "hevc", "av1", "vp9", "aac", "mp3", "ac3", "eac3", "opus", "flac"];

/// What goes beside the film: its boxes, many small ones.
const OVERHEAD: u64 = 64 << 20;

/// One run of ffmpeg.
pub(super) struct Ffmpeg<'a> {
    pub(super) tools: &'a Tools,
    pub(super) program: &'a Path,
    /// Where it may write.
    pub(super) folder: &'a Path,
    /// The film that it reads.
    pub(super) film: &'a PathBuf,
    pub(super) disks: &'a Disks,
    pub(super) stop: &'a CancellationToken,
}

/// The streams that are taken: the first picture that is no cover, and the first sound.
const STREAMS: [&str; 6] = ["-map", "0:V:0?", "-map", "0:a:0?", "-c", "copy"];

impl Ffmpeg<'_> {
    /// The codecs of the film's streams, all of which can be taken.
    pub(super) async fn codecs(&self) -> Result<Vec<&'static str>, RemuxError> {
        let mut args = self.input();
        args.extend(STREAMS.into_iter().chain(["-t", "0", "-f", "framehash", "-"]).map(OsString::from));
        let said = self.run(args, Allowance { file: 1 << 20, cpu: PROBE_TIMEOUT.as_secs() }, PROBE_TIMEOUT).await?;
        let names: Vec<_> = said.iter().filter_map(|line| line.strip_prefix("#codec_id ")?.split_once(": ")).collect();
        let known = names.iter().map(|(_, name)| CODECS.into_iter().find(|codec| codec == name));
        known.collect::<Option<Vec<_>>>().filter(|known| !known.is_empty()).ok_or(RemuxError::NotStreamable)
    }

    /// Puts these streams into one file, with a playlist that says where its segments are.
    pub(super) async fn remux(&self, codecs: &[&str], film_bytes: u64, time: Duration) -> Result<(), RemuxError> {
        let mut args = self.input();
        let mut add = |more: &[&str]| args.extend(more.iter().map(OsString::from));
        add(&STREAMS);
        add(&["-map_metadata", "-1", "-map_chapters", "-1", "-strict", "experimental", "-fflags", "+bitexact"]);
        if codecs.contains(&"hevc") {
            // By its other name Safari does not play it.
            add(&["-tag:v", "hvc1"]);
        }
        if codecs.contains(&"aac") {
            // As transport streams have it, each frame has a head of its own, for which there is no place.
            add(&["-bsf:a", "aac_adtstoasc"]);
        }
        add(&["-f", "hls", "-hls_time", SEGMENT, "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"]);
        add(&["-hls_flags", "single_file", "-hls_segment_filename"]);
        args.extend([self.folder.join(STREAM).into(), self.folder.join(INDEX).into()]);
        self.run(args, Allowance { file: most(film_bytes), cpu: time.as_secs() }, time).await.map(drop)
    }

    fn input(&self) -> Vec<OsString> {
        let quiet = ["-nostdin", "-v", "error", "-y", "-threads", "1", "-fflags", "+genpts"];
        let guarded = ["-format_whitelist", DEMUXERS, "-protocol_whitelist", "file,pipe", "-i"];
        let mut args: Vec<OsString> = quiet.into_iter().chain(guarded).map(OsString::from).collect();
        args.push(self.film.into());
        args
    }

    /// What it prints, where it ends well.
    async fn run(&self, args: Vec<OsString>, allowance: Allowance, time: Duration) -> Result<Vec<String>, RemuxError> {
        let Self { tools, program, folder, disks, stop, .. } = *self;
        let bounds = Bounds { disks, most: allowance.file, line: MAX_LINE, time };
        let reads = slice::from_ref(self.film);
        let confined = Confined { tools, program, args, folder, reads, allowance, proxy: None };
        let mut run = Run::start(confined, bounds, stop).map_err(|error| {
            tracing::error!(%error, "ffmpeg could not be started");
            RemuxError::Ours
        })?;
        let mut said = Vec::new();
        while let Some(line) = run.next().await {
            match line {
                Line::Out(line) if said.len() < 100 => said.push(line),
                line => tracing::debug!(?line, "ffmpeg"),
            }
        }
        match run.end().await {
            End::Exited(status) if status.success() => Ok(said),
            End::Stopped => Err(RemuxError::Stopped),
            End::Exhausted(reason) => Err(reason.into()),
            end => {
                tracing::warn!(?end, "ffmpeg has not prepared a stream");
                Err(RemuxError::Failed)
            }
        }
    }
}

/// The most that the stream of a film may take, in bytes.
pub(super) fn most(film_bytes: u64) -> u64 {
    film_bytes.saturating_add(film_bytes / 4).saturating_add(OVERHEAD)
}
