//! `[worker]`: downloads and streams.

use std::{
    path::{Path, PathBuf},
    time,
};

use serde::{Deserialize, Serialize};

use super::{
    base::Base,
    effect::{AT_ONCE_IN_POLICIES, RESTART_WORKER, toml_table},
    fault::Faults,
    host_port::HostPort,
    insecure::InsecureToml,
    units::{ByteSize, Duration},
    upstream::Upstream,
};

/// Starting yt-dlp already takes part of it.
const MIN_STALL_TIMEOUT: time::Duration = time::Duration::from_secs(1);

/// Where `scripts/run` installs yt-dlp and deno, next to the configuration in a checkout.
const TOOLS_DIR: &str = ".tools/bin";

/// All videos of a playlist are queued at once, and this is how many tasks of one user can be queued.
const MAX_PLAYLIST: u16 = 500;

toml_table! {
    /// `[worker]`
    struct WorkerToml {
        listen: String = "127.0.0.1:8001".into() => RESTART_WORKER;
        media_dir: PathBuf = "data/media".into() => RESTART_WORKER;
        library_access: LibraryAccess = LibraryAccess::Owner => RESTART_WORKER;
        yt_dlp: String = "yt-dlp".into() => RESTART_WORKER;
        ffmpeg: String = "ffmpeg".into() => RESTART_WORKER;
        js_runtime: String = "deno".into() => RESTART_WORKER;
        readable: Vec<PathBuf> = Vec::new() => RESTART_WORKER;
        allow_private: Vec<String> = Vec::new() => AT_ONCE_IN_POLICIES;
        concurrent_downloads: usize = 2 => RESTART_WORKER;
        concurrent_downloads_per_user: usize = 2 => RESTART_WORKER;
        max_playlist: u16 = 200 => RESTART_WORKER;
        retries: u32 = 4 => RESTART_WORKER;
        retry_delay: Duration = Duration::seconds(10) => RESTART_WORKER;
        stall_timeout: Duration = Duration::seconds(60) => RESTART_WORKER;
        min_download_rate: ByteSize = ByteSize(32 << 10) => RESTART_WORKER;
        max_filesize: ByteSize = ByteSize(20 << 30) => RESTART_WORKER;
        disk_reserve: ByteSize = ByteSize(1 << 30) => RESTART_WORKER;
        keep_for: Option<Duration> = None => RESTART_WORKER;
        keep_bytes: Option<ByteSize> = None => RESTART_WORKER;
        hls_keep_for: Duration = Duration::seconds(24 * 3_600) => RESTART_WORKER;
        job_timeout: Duration = Duration::seconds(6 * 3_600) => RESTART_WORKER;
        info_timeout: Duration = Duration::seconds(60) => RESTART_WORKER;
        look_keep_for: Duration = Duration::seconds(600) => RESTART_WORKER;
    }
}

/// Which system accounts can read finished files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LibraryAccess {
    /// Only the worker's account.
    #[default]
    Owner,
    /// The group of the media folder as well.
    Group,
}

/// The worker's settings.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The address that the worker listens on.
    pub listen: Upstream,
    /// The folder of finished media.
    pub media_dir: PathBuf,
    /// Which system accounts can read finished files.
    pub library_access: LibraryAccess,
    /// The folder that is searched for programs given by name, before the PATH.
    pub tools_dir: PathBuf,
    /// The yt-dlp program, as a name or a path.
    pub yt_dlp: PathBuf,
    /// The ffmpeg program, as a name or a path.
    pub ffmpeg: PathBuf,
    /// The JavaScript runtime for yt-dlp (deno), as a name or a path.
    pub js_runtime: PathBuf,
    /// Paths that child processes may read in addition to what their programs need.
    pub readable: Vec<PathBuf>,
    /// Private hosts that are allowed.
    pub allow_private: Vec<HostPort>,
    /// The number of simultaneous downloads.
    pub concurrent_downloads: usize,
    /// The number of simultaneous downloads of one user.
    pub concurrent_downloads_per_user: usize,
    /// The number of videos in a playlist.
    pub max_playlist: u16,
    /// How often a download is retried after a temporary failure.
    pub retries: u32,
    /// The shortest delay before the first retry; it doubles with each further one.
    pub retry_delay: time::Duration,
    /// How long a download may make no progress before it is stopped and retried.
    pub stall_timeout: time::Duration,
    /// The rate, in bytes per second, below which a download makes room for waiting downloads of other users.
    pub min_download_rate: u64,
    /// The largest file that is kept, in bytes.
    pub max_filesize: u64,
    /// How long finished files are kept.
    pub retention: Retention,
    /// How long prepared streams are kept after they were last played.
    pub hls_keep_for: time::Duration,
    /// The free space that downloads must leave, in bytes.
    pub disk_reserve: u64,
    /// The longest time that a download may run.
    pub job_timeout: time::Duration,
    /// The longest time that fetching the metadata of a page may take.
    pub info_timeout: time::Duration,
    /// How long fetched metadata is cached for identical requests.
    pub look_keep_for: time::Duration,
    /// Whether child processes run even if they cannot be fully sandboxed.
    pub partial_sandbox: bool,
}

/// How long finished files are kept, by the time they were last played; without limits, forever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Files that were not played for this long are removed.
    pub keep_for: Option<time::Duration>,
    /// The total size of all files, in bytes; the least recently played ones are removed first.
    pub keep_bytes: Option<u64>,
}

impl WorkerConfig {
    pub(super) fn resolve(
        worker: &WorkerToml,
        insecure: &InsecureToml,
        data_dir: &Path,
        base: Base<'_>,
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let media_dir = base.path(&worker.media_dir);
        if worker.library_access == LibraryAccess::Group && media_dir.starts_with(data_dir) {
            faults.add("library_access", "only the owner can enter data_dir, so the group cannot reach media_dir inside it; put media_dir elsewhere");
        }
        let listen: Upstream = faults.parsed("listen", &worker.listen)?;
        if !listen.is_local() && !insecure.worker_on_any_address {
            faults.add(
                "listen",
                "not a loopback address; use 127.0.0.1 or a unix: socket, so that only the gateway reaches the worker",
            );
        }
        let retention = Retention::resolve(worker, faults);
        worker.check_queue(faults);
        Some(Self {
            listen,
            media_dir,
            tools_dir: base.path(TOOLS_DIR),
            library_access: worker.library_access,
            yt_dlp: base.program(&worker.yt_dlp),
            ffmpeg: base.program(&worker.ffmpeg),
            js_runtime: base.program(&worker.js_runtime),
            readable: base.paths(&worker.readable),
            partial_sandbox: insecure.partial_sandbox,
            allow_private: faults.all_parsed("allow_private", &worker.allow_private),
            concurrent_downloads: worker.concurrent_downloads,
            concurrent_downloads_per_user: worker.concurrent_downloads_per_user,
            max_playlist: worker.max_playlist,
            retries: worker.retries,
            retry_delay: worker.retry_delay.0,
            stall_timeout: worker.stall_timeout.0,
            min_download_rate: worker.min_download_rate.0,
            max_filesize: worker.max_filesize.0,
            disk_reserve: worker.disk_reserve.0,
            retention,
            hls_keep_for: worker.hls_keep_for.0,
            job_timeout: worker.job_timeout.0,
            info_timeout: worker.info_timeout.0,
            look_keep_for: worker.look_keep_for.0,
        })
    }
}

impl WorkerToml {
    /// Reports limits under which no download, or no playlist, would ever finish.
    fn check_queue(&self, faults: &mut Faults<'_>) {
        for (name, count) in [
            ("concurrent_downloads", self.concurrent_downloads),
            ("concurrent_downloads_per_user", self.concurrent_downloads_per_user),
        ] {
            if count == 0 {
                faults.add(name, "0 would never download; write at least 1");
            }
        }
        if !(1..=MAX_PLAYLIST).contains(&self.max_playlist) {
            faults.add("max_playlist", "must be from 1 to 500, which is how many downloads of one user can be queued");
        }
        if self.stall_timeout.0 < MIN_STALL_TIMEOUT {
            faults.add("stall_timeout", "too short to read a page; write at least \"1s\"");
        }
    }
}

impl Retention {
    fn resolve(worker: &WorkerToml, faults: &mut Faults<'_>) -> Self {
        let keep_for = worker.keep_for.map(|time| time.0);
        let keep_bytes = worker.keep_bytes.map(|size| size.0);
        if keep_for.is_some_and(|time| time.is_zero()) {
            faults.add("keep_for", "0 would keep nothing; remove it to keep everything");
        }
        if keep_bytes == Some(0) {
            faults.add("keep_bytes", "0 would keep nothing; remove it to keep everything");
        }
        Self { keep_for, keep_bytes }
    }
}
