//! The argument lists. A client's input appears in them only as a validated URL or search text, after `--`.

use std::{ffi::OsString, path::Path};

use super::tools::Tools;
use crate::{
    media::JobFolder,
    tasks::{
        order::{Output, Quality, VideoFormat},
        source::SourceUrl,
        subtitles::WantedSubtitles,
    },
};

/// Limits of one download.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DownloadLimits {
    pub(crate) max_filesize: u64,
}

/// The video to download: a page, or one of several videos on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VideoRef<'a> {
    pub(crate) source: &'a SourceUrl,
    /// The index of the video in a playlist whose videos have no pages of their own; none for the only or the first one.
    pub(crate) item: Option<u32>,
}

/// Disables configuration files, plugins, caches, cookies, remote code, `--exec`, updates and guessing what an input means.
const HYGIENE: [&str; 16] = [
    "--ignore-config",
    "--no-plugin-dirs",
    "--no-cache-dir",
    "--no-cookies",
    "--no-cookies-from-browser",
    "--no-remote-components",
    "--no-exec",
    "--no-update",
    "--color",
    "never",
    "--default-search",
    "error",
    "--socket-timeout",
    "15",
    "--downloader",
    "native",
];

/// Post-processors that hand a downloaded file to ffmpeg.
const POST_PROCESSORS: [&str; 9] = [
    "Merger",
    "VideoRemuxer",
    "ExtractAudio",
    "FixupM3u8",
    "FixupM4a",
    "FixupStretched",
    "FixupTimestamp",
    "FixupDuration",
    "FixupDuplicateMoov",
];

/// Containers that ffmpeg may read. Playlists are not among them: a site could send one instead of a video, and ffmpeg
/// would copy any local file that it names, even another user's, into the result.
pub(crate) const DEMUXERS: &str = "mov,matroska,mpegts,mpeg,aac,mp3,ogg,flac,wav,flv,avi,h264,hevc,ac3,eac3,opus";

/// Subtitle formats that ffmpeg may read.
const TEXT_DEMUXERS: &str = "srt,ass,webvtt";

/// Video and audio, separate or combined; video without audio if there is nothing else.
const ANY: &str = "bv*+ba/b/bv*";
const WEBM: &str = "bv*[ext=webm]+ba[ext=webm]/b[ext=webm]/bv*[ext=webm]";

/// Excludes live streams, which have no end, and videos of four hours or more.
const ENDS_IN_TIME: &str = "!is_live & duration<?14400";

const DESCRIPTION: &str = "before_dl:B %(.{title,width,height,abr,filesize,filesize_approx})j";
const TRACKS: &str = "before_dl:T %(requested_formats.:.{filesize,filesize_approx,tbr})j";
const LIVE: &str = "pre_process:L %(.{live_status})j";
const LISTED: &str = "video:E %(.{url,title,playlist_index,playlist_title,playlist_webpage_url,_type})j";
const RESULT: &str = "after_move:A {\"filepath\":%(filepath)j}";

/// Arguments that download one video into a job's folder.
pub(crate) fn download(
    tools: &Tools,
    video: VideoRef<'_>,
    quality: Quality,
    output: Output,
    job: &JobFolder,
    limits: DownloadLimits,
) -> Vec<OsString> {
    let mut args = Args::hygienic(tools);
    args.accompany(tools);
    args.pick(video.item);
    args.add(["--retries", "3", "--fragment-retries", "3", "--abort-on-unavailable-fragments"]);
    // yt-dlp skips a file that was complete when an earlier run was killed; it must be fixed up all the same.
    args.add(["--fixup", "force"]);
    args.add(["--no-mtime", "--restrict-filenames", "--trim-filenames", "120", "-o", "media.%(ext)s"]);
    args.folder("home", &job.out());
    args.folder("temp", &job.temporary());
    args.add(["--max-filesize", &limits.max_filesize.to_string(), "--match-filters", ENDS_IN_TIME]);
    args.add(["-q", "--progress", "--newline", "--progress-delta", "0.5", "--no-simulate"]);
    args.add(["--progress-template", "download:P %(progress)j"]);
    args.add(["--progress-template", "postprocess:Q %(progress)j"]);
    args.add(["--print", LIVE, "--print", TRACKS, "--print", DESCRIPTION, "--print", RESULT]);
    args.add(selection(quality, output).iter().map(String::as_str));
    args.guard_ffmpeg();
    args.end(video.source.as_str())
}

/// Arguments that fetch the subtitles of one video into a folder, as WebVTT if possible.
pub(crate) fn subtitles(tools: &Tools, video: VideoRef<'_>, wanted: &WantedSubtitles, folder: &Path) -> Vec<OsString> {
    let mut args = Args::hygienic(tools);
    args.accompany(tools);
    args.pick(video.item);
    args.add(["--retries", "1", "-q", "--no-simulate"]);
    // A failure in one language must not prevent the others.
    args.add(["--skip-download", "--ignore-errors", "--match-filters", ENDS_IN_TIME]);
    args.add(["--write-subs", "--sub-langs", &wanted.languages.to_string()]);
    if wanted.automatic {
        args.add(["--write-auto-subs"]);
    }
    args.add(["--sub-format", "vtt/srt/best", "--convert-subs", "vtt"]);
    args.add(["--no-mtime", "-o", "media.%(ext)s"]);
    args.folder("home", folder);
    args.guard_ffmpeg();
    args.end(video.source.as_str())
}

/// Arguments that list the first `most` videos of a page, without loading each video's page.
pub(crate) fn listing(tools: &Tools, source: &SourceUrl, most: u16) -> Vec<OsString> {
    let mut args = Args::hygienic(tools);
    args.accompany(tools);
    args.add(["--yes-playlist", "--flat-playlist", "--lazy-playlist", "--playlist-items", &format!("1:{most}")]);
    args.add(["--retries", "3", "--extractor-retries", "3", "-q", "--print", LISTED]);
    args.end(source.as_str())
}

/// Arguments that fetch a page's metadata.
pub(crate) fn page_metadata(tools: &Tools, source: &SourceUrl) -> Vec<OsString> {
    let mut args = Args::hygienic(tools);
    args.add(["--no-playlist", "--playlist-items", "1", "--retries", "1", "-q", "-J"]);
    args.end(source.as_str())
}

/// Arguments that search, without loading each result's page.
pub(crate) fn search(tools: &Tools, text: &str, count: u8) -> Vec<OsString> {
    let mut args = Args::hygienic(tools);
    args.add(["--retries", "1", "--extractor-retries", "1", "--flat-playlist", "-q", "-J"]);
    args.end(&format!("ytsearch{count}:{text}"))
}

/// Selects formats and their container. A file that needs neither merging nor another container is left unchanged.
fn selection(quality: Quality, output: Output) -> Vec<String> {
    // The largest that does not exceed the limit, or else the smallest. `res` is the shorter side.
    let size = match quality {
        Quality::Best => "res".to_owned(),
        Quality::Height(lines) => format!("res:{lines}"),
    };
    let size_then_mp4 = format!("{size},ext:mp4:m4a");
    let list: Vec<&str> = match output {
        Output::Video(None) => vec!["-f", ANY, "-S", &size_then_mp4, "--merge-output-format", "mp4"],
        Output::Video(Some(VideoFormat::Mp4)) => {
            vec!["-f", ANY, "-S", &size_then_mp4, "--merge-output-format", "mp4", "--remux-video", "mp4"]
        }
        Output::Video(Some(VideoFormat::Mkv)) => {
            vec!["-f", ANY, "-S", &size, "--merge-output-format", "mkv", "--remux-video", "mkv"]
        }
        Output::Video(Some(VideoFormat::Webm)) => vec!["-f", WEBM, "-S", &size, "--merge-output-format", "webm"],
        Output::Audio(format) => {
            let format = format.map_or("best", |f| f.extension());
            vec!["-f", "ba/b", "-x", "--audio-format", format]
        }
    };
    list.into_iter().map(str::to_owned).collect()
}

struct Args(Vec<OsString>);

impl Args {
    fn hygienic(tools: &Tools) -> Self {
        let mut args = Self(Vec::new());
        args.add(HYGIENE);
        match &tools.js_runtime {
            Some(runtime) => {
                args.add(["--no-js-runtimes", "--js-runtimes"]);
                args.0.push(runtime.clone());
            }
            None => args.add(["--no-js-runtimes"]),
        }
        if let Some(ffmpeg) = &tools.ffmpeg {
            args.add(["--ffmpeg-location"]);
            args.0.push(ffmpeg.clone().into());
        }
        args
    }

    fn add<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) {
        self.0.extend(args.into_iter().map(OsString::from));
    }

    fn accompany(&mut self, tools: &Tools) {
        self.0.extend(["--plugin-dirs".into(), tools.companion.clone().into()]);
    }

    fn pick(&mut self, item: Option<u32>) {
        let list = if item.is_some() { "--yes-playlist" } else { "--no-playlist" };
        self.add([list, "--playlist-items", &item.unwrap_or(1).to_string()]);
    }

    fn folder(&mut self, kind: &str, path: &Path) {
        let mut value = OsString::from(format!("{kind}:"));
        value.push(path);
        self.0.extend(["-P".into(), value]);
    }

    /// Restricts ffmpeg to the allowed containers, and to files: it reads nothing from the network.
    fn guard_ffmpeg(&mut self) {
        for name in POST_PROCESSORS {
            let rule = format!("{name}+ffmpeg_i:-format_whitelist {DEMUXERS} -protocol_whitelist file,pipe");
            self.add(["--postprocessor-args", &rule]);
        }
        let rule =
            format!("SubtitlesConvertor+ffmpeg_i:-format_whitelist {TEXT_DEMUXERS} -protocol_whitelist file,pipe");
        self.add(["--postprocessor-args", &rule]);
        self.add(["--downloader-args", "ffmpeg_i:-protocol_whitelist file,pipe"]);
    }

    fn end(mut self, what: &str) -> Vec<OsString> {
        self.add(["--", what]);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::MediaFolder,
        sandbox::{EgressPath, Sandbox, Strictness},
        tasks::{id::TaskId, order::AudioFormat},
    };

    fn args(quality: Quality, output: Output) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let job = MediaFolder::open(dir.path()).unwrap().job(TaskId::random());
        let tools = Tools {
            yt_dlp: "yt-dlp".into(),
            ffmpeg: Some("/usr/bin/ffmpeg".into()),
            js_runtime: None,
            path: "".into(),
            companion: "".into(),
            readable: Vec::new(),
            sandbox: Sandbox { egress_path: EgressPath::Loopback(1), strictness: Strictness::Whole },
        };
        let source = SourceUrl::parse("https://example.com/-x", &[]).unwrap();
        let video = VideoRef { source: &source, item: None };
        let args = download(&tools, video, quality, output, &job, DownloadLimits { max_filesize: 7 });
        args.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn the_url_comes_last_and_after_the_dashes() {
        let args = args(Quality::Best, Output::Video(None));
        assert_eq!(args[args.len() - 2..], ["--", "https://example.com/-x"]);
    }

    #[test]
    fn nothing_rewrites_a_file_unless_a_container_is_requested() {
        let rewriting = ["--remux-video", "--recode-video", "--embed-metadata", "--embed-thumbnail", "-x"];
        let plain = args(Quality::Height(720), Output::Video(None));
        assert!(!plain.iter().any(|a| rewriting.contains(&a.as_str())));
        let audio = args(Quality::Best, Output::Audio(Some(AudioFormat::Mp3)));
        assert!(audio.windows(2).any(|w| w == ["--audio-format", "mp3"]));
    }
}
