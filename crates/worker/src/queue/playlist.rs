//! Playlists: a request for one becomes a task per video, and its own task sums these up.

use std::{num::NonZeroU16, time::Duration};

use uuid::Uuid;

use crate::{
    disk::{SCRATCH, SCRATCH_FILE},
    jobs::{
        job::{ABOUT, ChildOutput, Failure, JobContext, MAX_LINE, discard},
        registry::Running,
    },
    media::JobFolder,
    sandbox::Allowance,
    store::Expanded,
    tasks::{
        source::{self, SourceUrl},
        task::{Task, TaskId},
    },
    ytdlp::{Bounds, Confined, Listed, Run, Tools, listing},
};

/// The time limit for reading a playlist: its pages, without its videos.
const TIMEOUT: Duration = Duration::from_mins(10);

/// How much of a playlist to download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it; fails if it has more videos than a playlist may have.
    Whole,
    /// At most this many videos from its beginning.
    First(NonZeroU16),
}

/// How a task relates to a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A single video, outside a playlist.
    Alone,
    /// A playlist; its videos become tasks of their own once it has been read.
    List(Extent, Tally),
    /// A video of a playlist.
    Entry(PlaylistPosition),
}

/// The progress of a playlist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many videos it had when it was read; 0 before that.
    pub(crate) total: u32,
    /// How many of them have ended, successfully or not.
    pub(crate) ended: u32,
}

/// The position of a video in a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaylistPosition {
    pub(crate) list: TaskId,
    /// From 1.
    pub(crate) index: u32,
    pub(crate) total: u32,
    /// The number of the video on the playlist's page, if it has no page of its own.
    pub(crate) item: Option<u32>,
}

/// A video of a playlist that has just been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlaylistEntry {
    pub(crate) url: String,
    pub(crate) title: String,
    pub(crate) item: Option<u32>,
    /// The reason why it cannot be downloaded.
    pub(crate) fault: Option<String>,
}

/// What the page of a playlist request turned out to contain.
#[derive(Debug)]
enum Contents {
    /// A single video.
    Film,
    List {
        title: String,
        entries: Vec<PlaylistEntry>,
    },
}

impl Part {
    /// Returns the playlist that the video belongs to.
    pub(crate) fn list(self) -> Option<TaskId> {
        match self {
            Self::Entry(place) => Some(place.list),
            Self::Alone | Self::List(..) => None,
        }
    }

    /// Returns the number of the video on the playlist's page, if it has no page of its own.
    pub(crate) fn item(self) -> Option<u32> {
        match self {
            Self::Entry(place) => place.item,
            Self::Alone | Self::List(..) => None,
        }
    }
}

impl Extent {
    /// Returns the number that is stored.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Whole => 0,
            Self::First(most) => most.get(),
        }
    }

    pub(crate) fn of_number(number: u16) -> Self {
        NonZeroU16::new(number).map_or(Self::Whole, Self::First)
    }
}

impl JobContext {
    /// Creates a task for each video on the page that `task` names and returns their number, or `None` if the page is a single video.
    pub(crate) async fn expand(
        &self,
        task: &Task,
        extent: Extent,
        running: &Running,
    ) -> Result<Option<usize>, Failure> {
        let (tools, job) = (self.readiness.tools().await?, self.media.job(task.id));
        self.accepted(&job).await?;
        let read = self.read(task, extent, &job, &tools, running).await?;
        let Contents::List { title, entries } = read else {
            self.store.make_film(task.id).await?;
            return Ok(None);
        };
        discard(job).await;
        match self.store.expand(task.id, title, entries).await? {
            Expanded::Into(films) => Ok(Some(films.len())),
            Expanded::NoRoom => Err(Failure::NoRoomToWait),
            Expanded::Gone => Err(Failure::Stopped),
        }
    }

    async fn read(
        &self,
        task: &Task,
        extent: Extent,
        job: &JobFolder,
        tools: &Tools,
        running: &Running,
    ) -> Result<Contents, Failure> {
        let source = self.source(task, running).await?;
        let most = self.config.max_playlist;
        // One more distinguishes a playlist that is too long from one at the limit.
        let ask = match extent {
            Extent::Whole => most.saturating_add(1),
            Extent::First(wanted) => wanted.get().min(most),
        };
        let listed = self.listed(task, (&source, ask), job, tools, running).await?;
        if listed.len() > usize::from(most) {
            return Err(Failure::TooLong(most));
        }
        self.contents(&source, listed)
    }

    async fn listed(
        &self,
        task: &Task,
        (source, ask): (&SourceUrl, u16),
        job: &JobFolder,
        tools: &Tools,
        running: &Running,
    ) -> Result<Vec<Listed>, Failure> {
        let args = listing(tools, source, ask);
        let (folder, time) = (job.work(), TIMEOUT.min(self.config.job_timeout));
        let allowance = Allowance { file: SCRATCH_FILE, cpu: time.as_secs() };
        let proxy = Some(self.egress_tokens.proxy(&tools.sandbox, Uuid::new_v4(), time, ABOUT));
        let child = Confined { tools, program: &tools.yt_dlp, args, folder: &folder, reads: &[], allowance, proxy };
        let bounds = Bounds { disks: &self.disks, most: SCRATCH, line: MAX_LINE, time };
        let (mut run, mut said) = (Run::start(child, bounds, &running.stop)?, ChildOutput::default());
        let mut listed = Vec::new();
        while let Some(line) = run.next().await {
            said.hear(task.id, &line);
            listed.extend(Listed::of(&line));
            // The limit that yt-dlp was given applies to each playlist, and this one may contain others.
            if listed.len() >= usize::from(ask) {
                run.stop().await;
                return Ok(listed);
            }
        }
        said.ended_well(run.end().await)?;
        Ok(listed)
    }

    fn contents(&self, source: &SourceUrl, listed: Vec<Listed>) -> Result<Contents, Failure> {
        let first = listed.first().ok_or(Failure::EmptyList)?;
        if first.index.is_none() {
            return Ok(Contents::Film);
        }
        let title = first.list_title.clone();
        let entry = |listed: Listed| {
            PlaylistEntry::new(listed, source, |url| SourceUrl::parse(url, &self.config.allow_private))
        };
        Ok(Contents::List { title, entries: listed.into_iter().map(entry).collect() })
    }
}

impl PlaylistEntry {
    fn new(listed: Listed, page: &SourceUrl, judge: impl Fn(&str) -> Result<SourceUrl, source::SourceError>) -> Self {
        let (title, index) = (listed.title, listed.index);
        let list = listed.list_page.and_then(|page| judge(&page).ok());
        let page = list.as_ref().unwrap_or(page).as_str();
        let by_place = |title| Self { url: page.to_owned(), title, item: index, fault: None };
        let Some(url) = listed.url else { return by_place(title) };
        match judge(&url) {
            Ok(source) => Self { url: source.as_str().to_owned(), title, item: None, fault: None },
            // The title shows later whether this position still has the same video.
            Err(_) if source::is_of_yt_dlp(&url, judge) => {
                by_place(if listed.keeps_title { title } else { String::new() })
            }
            Err(error) => {
                let url = url.get(..url.floor_char_boundary(source::MAX_LENGTH)).unwrap_or_default().to_owned();
                Self { url, title, item: None, fault: Some(error.to_string()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(url: Option<&str>) -> PlaylistEntry {
        let listed = Listed {
            url: url.map(str::to_owned),
            title: "T".into(),
            index: Some(3),
            list_title: String::new(),
            list_page: None,
            keeps_title: true,
        };
        let page = SourceUrl::parse("https://example.com/list", &[]).unwrap();
        PlaylistEntry::new(listed, &page, |url| SourceUrl::parse(url, &[]))
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

    #[test]
    fn an_extent_is_restored_as_it_was_stored() {
        for extent in [Extent::Whole, Extent::First(NonZeroU16::MIN), Extent::First(NonZeroU16::MAX)] {
            assert_eq!(Extent::of_number(extent.number()), extent);
        }
    }
}
