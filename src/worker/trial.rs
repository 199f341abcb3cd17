//! Tries what downloads need, without a worker: for who asks before a start.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    sandbox::{Sandbox, Source},
    ytdlp::{Readiness, Unready, located},
};
use crate::{config::Config, random::random};

/// Something that downloads lack.
#[derive(Debug)]
pub(crate) struct Lack {
    /// The key under `[worker]`, or "sandbox".
    pub(crate) key: &'static str,
    /// What is wrong, and what mends it.
    pub(crate) what: String,
    /// Whether no download works without it.
    pub(crate) needed: bool,
}

/// A folder for the time of the trial.
struct Scratch(PathBuf);

/// Everything that downloads would lack.
pub(crate) async fn trial(config: &Config) -> Vec<Lack> {
    let mut lacks = programs(config);
    let sandbox = match Sandbox::tried(config).await {
        // A unit's confinement can only be tried from within.
        None => return lacks,
        Some(Ok(sandbox)) => sandbox,
        Some(Err(error)) => {
            let what = format!(
                "the sandbox for downloads cannot be made here: {error}; see docs/operations.md#sandbox, or set partial_sandbox = true for a weaker one"
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

/// A machine that has much to do may take too long once, with yt-dlp's many files not in memory yet.
async fn version_lack(readiness: &Readiness) -> Option<Lack> {
    let found = match readiness.version().await {
        Err(Unready::Broken) => readiness.version().await,
        other => other,
    };
    found.err().map(|unready| Lack { key: "yt_dlp", what: yt_dlp(&unready), needed: true })
}

fn programs(config: &Config) -> Vec<Lack> {
    let worker = &config.worker;
    let wanted = [
        ("yt_dlp", &worker.yt_dlp, true, "install it (pip install 'yt-dlp[default]'), and write its path here"),
        ("ffmpeg", &worker.ffmpeg, true, "install it (apt-get install ffmpeg), or write its path here"),
        (
            "js_runtime",
            &worker.js_runtime,
            false,
            "YouTube and some other sites fail without it; install it (pip install deno), and write its path here",
        ),
    ];
    let lack = |(key, program, needed, mend): (_, &PathBuf, _, _)| {
        let missing = located(worker, program).is_none();
        missing.then(|| Lack { key, what: format!("{} was not found; {mend}", program.display()), needed })
    };
    wanted.into_iter().filter_map(lack).collect()
}

fn yt_dlp(unready: &Unready) -> String {
    let mend = match unready {
        Unready::TooOld(_) => "; renew it: pip install --upgrade 'yt-dlp[default]'",
        Unready::Broken => {
            ": it does not tell its version within its sandbox; run it by hand, and name what it needs to read in worker.readable"
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
