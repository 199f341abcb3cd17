//! Checks what downloads need without starting a worker.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use sallyport_core::{config::Config, secrets::random::random};

use super::{
    sandbox::{Sandbox, Source},
    ytdlp::{Readiness, Unready, located},
};

/// Something that downloads need and that is missing.
#[derive(Debug)]
pub struct MissingRequirement {
    /// The key under `[worker]`, or "sandbox".
    pub key: &'static str,
    /// What is wrong, and how to fix it.
    pub what: String,
    /// True if no download works without it.
    pub needed: bool,
}

/// A program that downloads use.
struct Program<'a> {
    /// The key of its path under `[worker]`.
    key: &'static str,
    path: &'a Path,
    /// True if no download works without it.
    needed: bool,
    /// How to fix its absence.
    fix: &'static str,
}

/// A temporary folder for the check.
struct ScratchFolder(PathBuf);

/// Returns everything that is missing for downloads.
pub async fn trial(config: &Config) -> Vec<MissingRequirement> {
    let mut missing = programs(config);
    let sandbox = match Sandbox::tried(config).await {
        // The confinement of a systemd unit can only be checked from within it.
        None => return missing,
        Some(Ok(sandbox)) => sandbox,
        Some(Err(error)) => {
            let what = format!(
                "cannot create the download sandbox: {error}; see docs/operations.md#sandbox, or set partial_sandbox = true for a weaker one"
            );
            missing.push(MissingRequirement { key: "sandbox", what, needed: !config.worker.partial_sandbox });
            return missing;
        }
    };
    if let Ok(scratch) = ScratchFolder::create()
        && missing.iter().all(|requirement| requirement.key != "yt_dlp")
    {
        let folder = scratch.0.clone();
        let sandbox = Source::Settled(Ok(sandbox));
        let readiness = Readiness::new(config.worker.clone(), folder.clone(), folder, sandbox);
        missing.extend(unusable_yt_dlp(&readiness).await);
    }
    missing
}

/// Tries twice: the first run may time out on a busy machine, while yt-dlp's many files are not cached yet.
async fn unusable_yt_dlp(readiness: &Readiness) -> Option<MissingRequirement> {
    let found = match readiness.version().await {
        Err(Unready::Broken) => readiness.version().await,
        other => other,
    };
    found.err().map(|unready| MissingRequirement { key: "yt_dlp", what: yt_dlp(&unready), needed: true })
}

fn programs(config: &Config) -> Vec<MissingRequirement> {
    let worker = &config.worker;
    let programs = [
        Program {
            key: "yt_dlp",
            path: &worker.yt_dlp,
            needed: true,
            fix: "install it (pip install 'yt-dlp[default]') and set its path here",
        },
        Program {
            key: "ffmpeg",
            path: &worker.ffmpeg,
            needed: true,
            fix: "install it (apt-get install ffmpeg) or set its path here",
        },
        Program {
            key: "js_runtime",
            path: &worker.js_runtime,
            needed: false,
            fix: "YouTube and some other sites fail without it; install it (pip install deno) and set its path here",
        },
    ];
    let missing = programs.into_iter().filter(|program| located(worker, program.path).is_none());
    missing.map(Program::requirement).collect()
}

impl Program<'_> {
    fn requirement(self) -> MissingRequirement {
        let Self { key, path, needed, fix } = self;
        MissingRequirement { key, what: format!("{} was not found; {fix}", path.display()), needed }
    }
}

fn yt_dlp(unready: &Unready) -> String {
    let fix = match unready {
        Unready::TooOld(_) => "; upgrade it: pip install --upgrade 'yt-dlp[default]'",
        Unready::Broken => {
            ": it does not print its version in the sandbox; run it manually, and add the paths that it reads to worker.readable"
        }
        Unready::Missing | Unready::Sandbox(_) => "",
    };
    format!("{unready}{fix}")
}

impl ScratchFolder {
    fn create() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("sallyport-{}", data_encoding::HEXLOWER.encode(&random::<8>())));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}
