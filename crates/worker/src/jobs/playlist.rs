//! Reads playlists: a request for one becomes a task per video, and its own task sums these up.

use std::time::Duration;

use uuid::Uuid;

use super::{
    child_output::ChildOutput,
    failure::Failure,
    job::Job,
    listen::{MAX_LINE, PAGES},
};
use crate::{
    store::ExpandResult,
    tasks::{
        playlist::{PlaylistEntry, PlaylistExtent},
        source::{self, SourceError, SourceUrl},
    },
    ytdlp::{Limits, ListedVideo, SandboxedRun, Tools, listing},
};

/// The time limit for reading a playlist: its pages, without its videos.
const TIMEOUT: Duration = Duration::from_mins(10);

/// What the page of a playlist request turned out to contain.
#[derive(Debug)]
enum PageContents {
    /// A single video.
    SingleVideo,
    List {
        title: String,
        entries: Vec<PlaylistEntry>,
    },
}

impl Job<'_> {
    /// Creates a task for each video on the page that the task names and returns their number, or `None` if the page is a single video.
    pub(super) async fn expand(&self, extent: PlaylistExtent) -> Result<Option<usize>, Failure> {
        let tools = self.context.readiness.tools().await?;
        self.accepted().await?;
        let PageContents::List { title, entries } = self.read(extent, &tools).await? else {
            self.context.store.make_single_video(self.task.id).await?;
            return Ok(None);
        };
        self.discard().await;
        match self.context.store.expand(self.task.id, title, entries).await? {
            ExpandResult::Into(videos) => Ok(Some(videos.len())),
            ExpandResult::NoRoom => Err(Failure::NoRoomToWait),
            ExpandResult::Gone => Err(Failure::Stopped),
        }
    }

    async fn read(&self, extent: PlaylistExtent, tools: &Tools) -> Result<PageContents, Failure> {
        let source = self.source().await?;
        let most = self.context.config.max_playlist;
        // One more distinguishes a playlist that is too long from one at the limit.
        let limit = match extent {
            PlaylistExtent::Whole => most.saturating_add(1),
            PlaylistExtent::First(wanted) => wanted.get().min(most),
        };
        let listed = self.listed(&source, limit, tools).await?;
        if listed.len() > usize::from(most) {
            return Err(Failure::TooLong(most));
        }
        self.contents(&source, listed)
    }

    /// Lists at most `limit` videos of the page.
    async fn listed(&self, source: &SourceUrl, limit: u16, tools: &Tools) -> Result<Vec<ListedVideo>, Failure> {
        let folder = self.folder.work();
        let time = TIMEOUT.min(self.context.config.job_timeout);
        let limits = Limits { line: MAX_LINE, ..Limits::scratch(time) };
        let run = SandboxedRun::yt_dlp(tools, listing(tools, source, limit), &folder, limits);
        let run = run.online(&self.context.egress_tokens, Uuid::new_v4(), PAGES);
        let mut run = run.start(&self.context.disks, &self.running.stop)?;
        let mut output = ChildOutput::default();
        let mut listed = Vec::new();
        while let Some(line) = run.next().await {
            output.record(self.task.id, &line);
            listed.extend(ListedVideo::parse(&line));
            // The limit that yt-dlp was given applies to each playlist, and this one may contain others.
            if listed.len() >= usize::from(limit) {
                run.stop().await;
                return Ok(listed);
            }
        }
        output.require_success(run.end().await)?;
        Ok(listed)
    }

    fn contents(&self, source: &SourceUrl, listed: Vec<ListedVideo>) -> Result<PageContents, Failure> {
        let first = listed.first().ok_or(Failure::EmptyList)?;
        if first.index.is_none() {
            return Ok(PageContents::SingleVideo);
        }
        let title = first.list_title.clone();
        let judge = |url: &str| SourceUrl::parse(url, &self.context.config.allow_private);
        Ok(PageContents::List { title, entries: listed.into_iter().map(|video| entry(video, source, judge)).collect() })
    }
}

/// Returns the entry of a video that was listed on `page`. `judge` decides which URLs may be fetched.
fn entry(
    listed: ListedVideo,
    page: &SourceUrl,
    judge: impl Fn(&str) -> Result<SourceUrl, SourceError>,
) -> PlaylistEntry {
    let ListedVideo { title, index, .. } = listed;
    let list = listed.list_page.and_then(|page| judge(&page).ok());
    let page = list.as_ref().unwrap_or(page).as_str();
    let by_place = |title| PlaylistEntry { url: page.to_owned(), title, item: index, fault: None };
    let Some(url) = listed.url else { return by_place(title) };
    match judge(&url) {
        Ok(source) => PlaylistEntry { url: source.as_str().to_owned(), title, item: None, fault: None },
        // The title shows later whether this position still has the same video.
        Err(_) if source::is_of_yt_dlp(&url, judge) => by_place(if listed.keeps_title { title } else { String::new() }),
        Err(error) => {
            let url = url.get(..url.floor_char_boundary(source::MAX_LENGTH)).unwrap_or_default().to_owned();
            PlaylistEntry { url, title, item: None, fault: Some(error.to_string()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(url: Option<&str>) -> PlaylistEntry {
        let listed = ListedVideo {
            url: url.map(str::to_owned),
            title: "T".into(),
            index: Some(3),
            list_title: String::new(),
            list_page: None,
            keeps_title: true,
        };
        let page = SourceUrl::parse("https://example.com/list", &[]).unwrap();
        super::entry(listed, &page, |url| SourceUrl::parse(url, &[]))
    }

    #[test]
    fn a_video_has_a_page_of_its_own_or_a_number_on_the_playlists_page() {
        let own = entry(Some("https://example.com/a%20b"));
        assert_eq!((own.url.as_str(), own.item, own.fault), ("https://example.com/a%20b", None, None));
        let numbered = entry(None);
        assert_eq!((numbered.url.as_str(), numbered.item), ("https://example.com/list", Some(3)));
    }

    #[test]
    fn a_video_is_identified_by_its_position_if_its_url_is_internal_to_yt_dlp() {
        for url in [
            "https://example.com/a.mp3#__youtubedl_smuggle=%7B%22force_videoid%22%3A+%22x%22%7D",
            "https://example.com/a b.mp3#__youtubedl_smuggle=%7B%7D",
            "kaltura:1:2",
        ] {
            let entry = entry(Some(url));
            assert_eq!(
                (entry.url.as_str(), entry.item, entry.fault),
                ("https://example.com/list", Some(3), None),
                "{url}"
            );
        }
        for url in
            ["http://127.0.0.1/a.mp3#__youtubedl_smuggle=%7B%7D", "file:///etc/passwd#__youtubedl_smuggle=%7B%7D"]
        {
            assert!(entry(Some(url)).fault.is_some(), "{url}");
        }
    }

    #[test]
    fn a_url_that_a_playlist_may_not_contain_is_an_entry_with_a_fault() {
        for url in
            ["file:///etc/passwd", "http://127.0.0.1/", "http://a@example.com/", &"x".repeat(5_000), &"é".repeat(5_000)]
        {
            let entry = entry(Some(url));
            assert!(entry.fault.is_some() && entry.url.len() <= source::MAX_LENGTH, "{url}");
        }
    }
}
