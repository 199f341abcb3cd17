//! Runs ffmpeg to list the streams of a file, and to copy them unchanged into fragmented MP4.

use std::{ffi::OsString, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    RemuxError,
    folder::{INDEX, STREAM},
};
use crate::{
    disk::Disks,
    ytdlp::{DEMUXERS, End, Limits, Line, SandboxedRun, Tools},
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// The length of a segment in seconds; ffmpeg cuts at the next keyframe.
const SEGMENT: &str = "6";

/// Codecs that fragmented MP4 can hold and that some player supports.
const CODECS: [&str; 10] = ["h264", "hevc", "av1", "vp9", "aac", "mp3", "ac3", "eac3", "opus", "flac"];

/// Extra space for the many small boxes of the container, in bytes.
const OVERHEAD: u64 = 64 << 20;

/// One run of ffmpeg.
pub(super) struct Ffmpeg<'a> {
    pub(super) tools: &'a Tools,
    pub(super) program: &'a Path,
    /// The folder that ffmpeg may write to.
    pub(super) folder: &'a Path,
    /// The media file to read.
    pub(super) file: &'a Path,
    pub(super) disks: &'a Disks,
    pub(super) stop: &'a CancellationToken,
}

/// Selects the first video stream that is not a cover picture, and the first audio stream.
const STREAMS: [&str; 6] = ["-map", "0:V:0?", "-map", "0:a:0?", "-c", "copy"];

impl Ffmpeg<'_> {
    /// Returns the codecs of the selected streams, if all of them are supported.
    pub(super) async fn codecs(&self) -> Result<Vec<&'static str>, RemuxError> {
        let mut args = self.input();
        args.extend(STREAMS.into_iter().chain(["-t", "0", "-f", "framehash", "-"]).map(OsString::from));
        let printed = self.run(args, 1 << 20, PROBE_TIMEOUT).await?;
        let names: Vec<_> =
            printed.iter().filter_map(|line| line.strip_prefix("#codec_id ")?.split_once(": ")).collect();
        let known = names.iter().map(|(_, name)| CODECS.into_iter().find(|codec| codec == name));
        known.collect::<Option<Vec<_>>>().filter(|known| !known.is_empty()).ok_or(RemuxError::NotStreamable)
    }

    /// Copies the selected streams into one file, with a playlist of the positions of its segments.
    pub(super) async fn remux(&self, codecs: &[&str], file_bytes: u64, time: Duration) -> Result<(), RemuxError> {
        let mut args = self.input();
        let mut add = |more: &[&str]| args.extend(more.iter().map(OsString::from));
        add(&STREAMS);
        add(&["-map_metadata", "-1", "-map_chapters", "-1", "-strict", "experimental", "-fflags", "+bitexact"]);
        if codecs.contains(&"hevc") {
            // Safari does not play HEVC under its other tag, hev1.
            add(&["-tag:v", "hvc1"]);
        }
        if codecs.contains(&"aac") {
            // In transport streams each frame has its own header (ADTS), which MP4 does not allow.
            add(&["-bsf:a", "aac_adtstoasc"]);
        }
        add(&["-f", "hls", "-hls_time", SEGMENT, "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"]);
        add(&["-hls_flags", "single_file", "-hls_segment_filename"]);
        args.extend([self.folder.join(STREAM).into(), self.folder.join(INDEX).into()]);
        self.run(args, most(file_bytes), time).await.map(drop)
    }

    fn input(&self) -> Vec<OsString> {
        let quiet = ["-nostdin", "-v", "error", "-y", "-threads", "1", "-fflags", "+genpts"];
        let guarded = ["-format_whitelist", DEMUXERS, "-protocol_whitelist", "file,pipe", "-i"];
        let mut args: Vec<OsString> = quiet.into_iter().chain(guarded).map(OsString::from).collect();
        args.push(self.file.into());
        args
    }

    /// Runs ffmpeg, which may write up to `most` bytes, and returns the lines it printed, if it succeeded.
    async fn run(&self, args: Vec<OsString>, most: u64, time: Duration) -> Result<Vec<String>, RemuxError> {
        let Self { tools, program, folder, file, disks, stop } = *self;
        let limits = Limits { file: most, folder: most, ..Limits::scratch(time) };
        let run = SandboxedRun::new(tools, program, args, folder, limits).reading(file);
        let mut run = run.start(disks, stop).map_err(|error| {
            tracing::error!(%error, "ffmpeg could not be started");
            RemuxError::Internal
        })?;
        let mut printed = Vec::new();
        while let Some(line) = run.next().await {
            match line {
                Line::Out(line) if printed.len() < 100 => printed.push(line),
                line => tracing::debug!(?line, "ffmpeg"),
            }
        }
        match run.end().await {
            End::Exited(status) if status.success() => Ok(printed),
            End::Stopped => Err(RemuxError::Stopped),
            End::Exhausted(reason) => Err(reason.into()),
            end => {
                tracing::warn!(?end, "ffmpeg failed to prepare a stream");
                Err(RemuxError::Failed)
            }
        }
    }
}

/// Returns the largest allowed size of a stream, in bytes.
pub(super) fn most(file_bytes: u64) -> u64 {
    file_bytes.saturating_add(file_bytes / 4).saturating_add(OVERHEAD)
}
