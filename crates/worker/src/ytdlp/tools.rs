//! Finds the programs that the worker runs, and checks that yt-dlp is new enough to be safe.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use sallyport_core::config::WorkerConfig;
use thiserror::Error;
use tokio::{io::AsyncReadExt, sync::Mutex, time::timeout};

use super::{limits::Limits, program_paths, sandboxed::SandboxedRun};
use crate::sandbox::{Sandbox, Source};

/// The oldest version without a known vulnerability (CVE-2026-55404).
const OLDEST: Version = Version(2026, 7, 4);

const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
const KEEP_GOOD: Duration = Duration::from_mins(5);
const KEEP_BAD: Duration = Duration::from_secs(3);

/// JavaScript runtimes that yt-dlp supports, by the names that its option takes.
const RUNTIMES: [&str; 4] = ["deno", "node", "bun", "quickjs"];

/// The programs that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) yt_dlp: PathBuf,
    pub(crate) ffmpeg: Option<PathBuf>,
    /// `NAME:PATH`, as yt-dlp takes it.
    pub(crate) js_runtime: Option<OsString>,
    /// The PATH for children: the programs' own folders and the system's.
    pub(crate) path: OsString,
    /// The folder of the plugin that yt-dlp is given.
    pub(crate) companion: PathBuf,
    /// What the programs need to read besides system files.
    pub(crate) readable: Vec<PathBuf>,
    /// The sandbox that they run in.
    pub(crate) sandbox: Sandbox,
}

/// Why no download can run now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Unready {
    #[error("yt-dlp was not found on this server")]
    Missing,
    #[error("yt-dlp {0} is too old on this server; version {OLDEST} or newer is required")]
    TooOld(Version),
    #[error("yt-dlp does not run on this server")]
    Broken,
    #[error("the download sandbox cannot be started on this server: {0}")]
    Sandbox(String),
}

/// A version of yt-dlp: year, month, day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u16, u8, u8);

/// The text is not a version.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a version of yt-dlp")]
pub(crate) struct InvalidVersion;

/// Checks the programs, and caches the result only for a while, so that installing or upgrading one takes effect without a restart.
pub(crate) struct Readiness {
    config: WorkerConfig,
    folder: PathBuf,
    companion: PathBuf,
    sandbox: Source,
    last: Mutex<Option<(Instant, Result<Tools, Unready>)>>,
}

impl Readiness {
    /// `folder` is the working folder for checking the programs; `companion` is the folder of yt-dlp's plugin.
    pub(crate) fn new(config: WorkerConfig, folder: PathBuf, companion: PathBuf, sandbox: Source) -> Self {
        Self { config, folder, companion, sandbox, last: Mutex::new(None) }
    }

    /// Returns the programs, if yt-dlp can be used.
    pub(crate) async fn tools(&self) -> Result<Tools, Unready> {
        let mut last = self.last.lock().await;
        if let Some((at, result)) = last.as_ref()
            && at.elapsed() < if result.is_ok() { KEEP_GOOD } else { KEEP_BAD }
        {
            return result.clone();
        }
        let before = last.take().map(|(_, result)| result);
        let found = self.version().await;
        let result = found.as_ref().map(|(tools, _)| tools.clone()).map_err(Unready::clone);
        // Checks are frequent; only changes are logged.
        match &found {
            _ if before.as_ref() == Some(&result) => {}
            Ok((tools, version)) => self.tell_of(tools, *version),
            Err(error) => {
                let mend = "run `sallyport check` to see what to do";
                tracing::error!(%error, program = %self.config.yt_dlp.display(), mend, "nothing can be downloaded");
            }
        }
        *last = Some((Instant::now(), result.clone()));
        result
    }

    /// Returns the programs and the version of yt-dlp, if it can be used.
    pub(crate) async fn version(&self) -> Result<(Tools, Version), Unready> {
        let sandbox = self.sandbox.sandbox().await.map_err(|error| Unready::Sandbox(error.to_string()))?;
        let tools = Tools::locate(&self.config, &self.companion, &sandbox).ok_or(Unready::Missing)?;
        let output = version_output(&tools, &self.folder).await.ok_or(Unready::Broken)?;
        let version: Version = output.trim().parse().map_err(|_| Unready::Broken)?;
        if version < OLDEST { Err(Unready::TooOld(version)) } else { Ok((tools, version)) }
    }

    fn tell_of(&self, tools: &Tools, version: Version) {
        tracing::info!(%version, "yt-dlp is ready");
        if tools.ffmpeg.is_none() {
            tracing::warn!(program = %self.config.ffmpeg.display(), "ffmpeg was not found; downloads that need merging will fail");
        }
        if tools.js_runtime.is_none() {
            let program = self.config.js_runtime.display();
            tracing::warn!(%program, "no JavaScript runtime was found; some sites will fail");
        }
    }
}

impl Tools {
    fn locate(config: &WorkerConfig, companion: &Path, sandbox: &Sandbox) -> Option<Self> {
        let yt_dlp = located(config, &config.yt_dlp)?;
        let ffmpeg = located(config, &config.ffmpeg);
        let js = located(config, &config.js_runtime);
        let path = children_path([Some(&yt_dlp), ffmpeg.as_ref(), js.as_ref()]);
        let programs = [Some(&yt_dlp), ffmpeg.as_ref(), js.as_ref()].into_iter().flatten();
        let homes = programs.flat_map(|program| program_paths::of(program));
        let companion = companion.to_owned();
        let readable = homes.chain(config.readable.iter().cloned()).chain([companion.clone()]).collect();
        let js_runtime = js.as_deref().and_then(runtime_option);
        Some(Self { yt_dlp, ffmpeg, js_runtime, path, companion, readable, sandbox: sandbox.clone() })
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Parses `2026.07.04`, optionally with the suffixes of nightly and master builds.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let mut parts = text.split(['.', '@', '-', '+']);
        let version = (|| {
            let year = parts.next()?;
            let month = parts.next()?;
            let day = parts.next()?;
            Some(Self(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
        })();
        version.filter(|v| v.0 >= 2000).ok_or(InvalidVersion)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}.{:02}.{:02}", self.0, self.1, self.2)
    }
}

async fn version_output(tools: &Tools, folder: &Path) -> Option<String> {
    let args = ["--ignore-config", "--no-plugin-dirs", "--version"].map(OsString::from).to_vec();
    let limits = Limits { file: 1 << 20, ..Limits::scratch(PROBE_TIMEOUT) };
    let mut group = SandboxedRun::yt_dlp(tools, args, folder, limits).spawn().ok()?;
    let stdout = group.take_stdout()?;
    let mut output = String::new();
    let read = timeout(PROBE_TIMEOUT, async move {
        stdout.take(256).read_to_string(&mut output).await.ok()?;
        Some(output)
    });
    let output = read.await.ok().flatten();
    group.stop().await;
    output
}

/// Finds a program. A name is searched for in the configured tools folder, then on `PATH`; a path is used as it is.
pub(crate) fn located(config: &WorkerConfig, program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(config.tools_dir.clone()).chain(env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|p| p.is_absolute() && p.is_file())
}

fn children_path<const N: usize>(programs: [Option<&PathBuf>; N]) -> OsString {
    let mut folders: Vec<&Path> = Vec::new();
    let own = programs.into_iter().flatten().filter_map(|program| program.parent());
    for folder in own.chain([Path::new("/usr/bin"), Path::new("/bin")]) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    env::join_paths(folders).unwrap_or_else(|_| "/usr/bin:/bin".into())
}

fn runtime_option(program: &Path) -> Option<OsString> {
    let stem = program.file_stem().and_then(OsStr::to_str)?;
    let name = RUNTIMES.into_iter().find(|name| stem.starts_with(name))?;
    let mut option = OsString::from(format!("{name}:"));
    option.push(program);
    Some(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_date() {
        let version = |text: &str| text.parse::<Version>();
        assert_eq!(version("2026.07.04"), Ok(OLDEST));
        assert!(version("2026.10.26.123456").unwrap() > OLDEST);
        assert!(version("2026.06.09").unwrap() < OLDEST);
        assert!(version("2025.12.31").unwrap() < OLDEST);
        for text in ["", "yt-dlp", "1.2", "2026.x.1", "1.2.3", "2026.07"] {
            assert_eq!(version(text), Err(InvalidVersion), "{text}");
        }
    }
}
