//! Fetches the requested subtitles after a video was downloaded. Best effort: missing or invalid subtitles are not an error.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    disk::Disks,
    media::{JobFolder, files::open_regular},
    sandbox::egress_tokens::EgressTokens,
    streaming::webvtt,
    tasks::{
        language::{Language, Languages},
        subtitles::WantedSubtitles,
    },
    ytdlp::{End, Limits, SandboxedRun, Tools, VideoRef, subtitles},
};

/// The largest subtitle file, in bytes; enough for the text of several feature films.
const MAX_BYTES: u64 = 4 << 20;

/// The maximum number of bytes that a run may transfer, including web pages.
const MAX_FETCHED: u64 = 128 << 20;
const TIMEOUT: Duration = Duration::from_mins(2);

/// A run that fetches subtitles.
pub(super) struct SubtitlesFetch<'a> {
    pub(super) tools: &'a Tools,
    pub(super) job: &'a JobFolder,
    pub(super) video: VideoRef<'a>,
    pub(super) wanted: &'a WantedSubtitles,
    pub(super) stop: &'a CancellationToken,
}

impl SubtitlesFetch<'_> {
    /// Puts the available subtitles next to the accepted file. Fails only if the state of that folder is unknown afterwards.
    pub(super) async fn run(&self, disks: &Disks, tokens: &EgressTokens) -> io::Result<()> {
        let job = self.job.clone();
        let languages = self.wanted.languages.clone();
        // Only subtitles made here are published, whatever the child has left.
        let folder = spawn_blocking(move || {
            job.forget_subtitles()?;
            if languages.is_empty() { Ok(None) } else { job.begin_subtitles().map(Some) }
        });
        let Some(folder) = folder.await.map_err(io::Error::other)?? else { return Ok(()) };
        let end = self.download(&folder, disks, tokens).await?;
        let job = self.job.clone();
        let languages = self.wanted.languages.clone();
        let collected = spawn_blocking(move || collect(&folder, &job, &languages)).await;
        if let Ok(Ok(())) = collected {
            return Ok(());
        }
        // A video without subtitles is better than no video.
        tracing::warn!(?end, ?collected, "continuing without subtitles");
        let job = self.job.clone();
        spawn_blocking(move || job.forget_subtitles()).await.map_err(io::Error::other)?
    }

    async fn download(&self, folder: &Path, disks: &Disks, tokens: &EgressTokens) -> io::Result<End> {
        let args = subtitles(self.tools, self.video, self.wanted, folder);
        let run = SandboxedRun::yt_dlp(self.tools, args, folder, Limits::scratch(TIMEOUT));
        let mut run = run.online(tokens, Uuid::new_v4(), MAX_FETCHED).start(disks, self.stop)?;
        while let Some(line) = run.next().await {
            tracing::debug!(?line, "yt-dlp (subtitles)");
        }
        Ok(run.end().await)
    }
}

/// Takes the files that yt-dlp has left, if they are WebVTT in a requested language.
fn collect(from: &Path, job: &JobFolder, languages: &Languages) -> io::Result<()> {
    for entry in fs::read_dir(from)?.flatten() {
        let name = entry.file_name();
        let wanted = name.to_str().and_then(language_of).and_then(|language| name_to_keep(languages, language));
        let Some(language) = wanted else { continue };
        match read(&entry.path()) {
            Ok(text) => write_new(&job.subtitles(&language), &text)?,
            Err(error) => tracing::warn!(%language, %error, "invalid subtitles discarded"),
        }
    }
    Ok(())
}

/// Returns the tag to keep a language under: the requested tag, or its own if a requested one covers it.
fn name_to_keep(wanted: &Languages, found: Language) -> Option<Language> {
    match wanted.find(&found) {
        Some(same) => Some(same.clone()),
        None => wanted.iter().any(|range| range.covers(&found)).then_some(found),
    }
}

/// Returns the language in a file name that yt-dlp has chosen.
fn language_of(name: &str) -> Option<Language> {
    name.strip_prefix("media.")?.strip_suffix(".vtt")?.parse().ok()
}

fn read(path: &Path) -> io::Result<String> {
    let (file, about) = open_regular(path)?;
    if about.len() > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    webvtt::rewrite(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a new file. An existing one is kept: a site may have both `en` and `EN`.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{media::MediaFolder, tasks::id::TaskId};

    const CUE: &str = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHello\n";

    #[test]
    fn only_small_and_valid_webvtt_in_a_requested_language_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let job = MediaFolder::open(&dir.path().join("media")).unwrap().job(TaskId::random());
        job.create().unwrap();
        let folder = job.begin_subtitles().unwrap();
        let secret = dir.path().join("secret.vtt");
        fs::write(&secret, CUE).unwrap();
        symlink(&secret, folder.join("media.fr.vtt")).unwrap();
        fs::create_dir(folder.join("media.it.vtt")).unwrap();
        let large = format!("{CUE}{}", "\n".repeat(5 << 20));
        let files: [(&str, &[u8]); 8] = [
            ("media.EN.vtt", CUE.as_bytes()),
            ("media.de.vtt", b"<html>"),
            ("media.pl.vtt", b"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n\xff\n"),
            ("media.sv.vtt", large.as_bytes()),
            ("media.ja.vtt", CUE.as_bytes()),
            ("media.da.srt", CUE.as_bytes()),
            ("media.vtt", CUE.as_bytes()),
            ("other.es.vtt", CUE.as_bytes()),
        ];
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).unwrap();
        }
        let wanted = "en,de,pl,sv,fr,it,da,es".parse().unwrap();
        collect(&folder, &job, &wanted).unwrap();
        let kept = fs::read_dir(job.subtitles(&"en".parse().unwrap()).parent().unwrap()).unwrap().flatten();
        assert_eq!(kept.map(|e| e.file_name()).collect::<Vec<_>>(), ["subtitles.en.vtt"]);
        job.forget_subtitles().unwrap();
        assert!(!job.subtitles(&"en".parse().unwrap()).exists());
    }

    #[test]
    fn regional_subtitles_are_kept_under_their_own_tags() {
        let wanted: Languages = "en,pt".parse().unwrap();
        let kept = |tag: &str| name_to_keep(&wanted, tag.parse().unwrap()).map(|language| language.to_string());
        let found = ["EN", "pt-BR", "ptx", "de"].map(kept);
        assert_eq!(found, [Some("en".into()), Some("pt-BR".into()), None, None]);
    }

    #[test]
    fn a_link_that_a_child_has_put_in_the_way_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "mine").unwrap();
        symlink(&target, dir.path().join("link")).unwrap();
        write_new(&dir.path().join("link"), CUE).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    }
}
