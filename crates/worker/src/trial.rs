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
pub struct Lack {
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
    mend: &'static str,
}

/// A temporary folder for the check.
struct Scratch(PathBuf);

/// Returns everything that is missing for downloads.
pub async fn trial(config: &Config) -> Vec<Lack> {
    let mut lacks = programs(config);
    let sandbox = match Sandbox::tried(config).await {
        // The confinement of a systemd unit can only be checked from within it.
        None => return lacks,
        Some(Ok(sandbox)) => sandbox,
        Some(Err(error)) => {
            let what = format!(
                "cannot create the download sandbox: {error}; see docs/operations.md#sandbox, or set partial_sandbox = true for a weaker one"
            );
            lacks.push(Lack { key: "sandbox", what, needed: !config.worker.partial_sandbox });
            return lacks;
        }
    };
    if let Ok(scratch) = Scratch::make()
        && lacks.iter().all(|lack| lack.key != "yt_dlp")
    {
        let folder = scratch.0.clone();
        let sandbox = Source::Settled(Ok(sandbox));
        let readiness = Readiness::new(config.worker.clone(), folder.clone(), folder, sandbox);
        lacks.extend(version_lack(&readiness).await);
    }
    lacks
}

/// Tries twice: the first run may time out on a busy machine, while yt-dlp's many files are not cached yet.
async fn version_lack(readiness: &Readiness) -> Option<Lack> {
    let found = match readiness.version().await {
        Err(Unready::Broken) => readiness.version().await,
        other => other,
    };
    found.err().map(|unready| Lack { key: "yt_dlp", what: yt_dlp(&unready), needed: true })
}

fn programs(config: &Config) -> Vec<Lack> {
    let worker = &config.worker;
    let programs = [
        Program {
            key: "yt_dlp",
            path: &worker.yt_dlp,
            needed: true,
            mend: "install it (pip install 'yt-dlp[default]') and set its path here",
        },
        Program {
            key: "ffmpeg",
            path: &worker.ffmpeg,
            needed: true,
            mend: "install it (apt-get install ffmpeg) or set its path here",
        },
        Program {
            key: "js_runtime",
            path: &worker.js_runtime,
            needed: false,
            mend: "YouTube and some other sites fail without it; install it (pip install deno) and set its path here",
        },
    ];
    let missing = programs.into_iter().filter(|program| located(worker, program.path).is_none());
    missing.map(Program::lack).collect()
}

impl Program<'_> {
    fn lack(self) -> Lack {
        let Self { key, path, needed, mend } = self;
        Lack { key, what: format!("{} was not found; {mend}", path.display()), needed }
    }
}

fn yt_dlp(unready: &Unready) -> String {
    let mend = match unready {
        Unready::TooOld(_) => "; upgrade it: pip install --upgrade 'yt-dlp[default]'",
        Unready::Broken => {
            ": it does not print its version in the sandbox; run it manually, and add the paths that it reads to worker.readable"
        }
        Unready::Missing | Unready::Sandbox(_) => "",
    };
    format!("{unready}{mend}")
}

impl Scratch {
    fn make() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("sallyport-{}", data_encoding::HEXLOWER.encode(&random::<8>())));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}
