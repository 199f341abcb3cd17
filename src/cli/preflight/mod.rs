//! Finds what would make a start fail, before the start and all at once.

mod apps;
mod files;
mod folders;
mod ports;
mod programs;

use std::{collections::HashSet, fmt::Display, path::Path};

use sallyport_core::{
    config::{Config, Fault, Key, Sources, Survey},
    files::os_error,
};
use sallyport_gateway::{
    edge::tls,
    policy::{self, Site},
};

pub(super) use self::ports::PortWait;

/// The findings, each one line.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Problems that prevent a start or the answering of requests.
    pub(super) faults: Vec<String>,
    /// Problems despite which everything runs.
    pub(super) warnings: Vec<String>,
}

/// How much to inspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// What would prevent a start.
    Start(PortWait),
    /// Also what would prevent the answering of requests, such as a missing yt-dlp.
    Everything,
}

/// Which processes are to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Roles {
    /// Gateway and worker, as with `sallyport up`.
    Both,
    /// Only the gateway.
    Gateway,
    /// Only the worker.
    Worker,
}

/// The subject of an inspection, and its findings so far.
struct Inspection<'a> {
    config: &'a Config,
    sources: &'a Sources,
    roles: Roles,
    found: Findings,
}

/// Reads and tries everything that a start with the configuration at `path` needs.
pub(super) fn inspect(path: &Path, depth: Depth, roles: Roles) -> Findings {
    tls::install_crypto();
    let survey = Survey::of(path);
    let mut faults: Vec<String> = survey.faults.0.iter().map(ToString::to_string).collect();
    let Some(config) = &survey.config else { return Findings { faults, warnings: Vec::new() } };
    let site = policy::compile(config);
    faults.extend(site.as_ref().err().into_iter().flat_map(|found| &found.0).map(ToString::to_string));
    let found = Findings { faults, warnings: Vec::new() };
    let mut inspection = Inspection { config, sources: &survey.sources, roles, found };
    inspection.all(site.as_ref().ok(), depth);
    inspection.found.once()
}

impl Inspection<'_> {
    fn all(&mut self, site: Option<&Site>, depth: Depth) {
        // Which programs run depends on the whole configuration, so they are tried only if it is valid.
        let sound = self.found.faults.is_empty();
        self.apps(site, depth);
        self.secrets();
        if self.roles.have_gateway() {
            self.certificates(depth);
        }
        self.folders(site);
        self.ports(site, depth);
        if depth == Depth::Everything {
            if self.roles.have_gateway() {
                self.upstreams(site);
            }
            if let Some(site) = site.filter(|_| sound && self.roles.have_worker()) {
                self.programs(site);
            }
        }
    }

    /// Adds an error about a key of the configuration.
    fn fault(&mut self, key: Vec<Key>, what: impl Into<String>) {
        let line = self.located(key, what);
        self.found.faults.push(line);
    }

    /// Adds a warning about a key of the configuration.
    fn warn(&mut self, key: Vec<Key>, what: impl Into<String>) {
        let line = self.located(key, what);
        self.found.warnings.push(line);
    }

    fn located(&self, key: Vec<Key>, what: impl Into<String>) -> String {
        let mut located = self.sources.locate(&[Fault::new(key, what)]).0;
        located.pop().map(|diagnostic| diagnostic.to_string()).unwrap_or_default()
    }

    /// Adds an error about another file, which the error names.
    fn fault_of_file(&mut self, error: &impl Display) {
        self.found.faults.push(os_error::plain(&error.to_string()));
    }
}

impl Roles {
    const fn have_gateway(self) -> bool {
        matches!(self, Self::Both | Self::Gateway)
    }

    const fn have_worker(self) -> bool {
        matches!(self, Self::Both | Self::Worker)
    }
}

impl Findings {
    /// Removes duplicate lines.
    fn once(mut self) -> Self {
        for lines in [&mut self.faults, &mut self.warnings] {
            let mut seen = HashSet::new();
            lines.retain(|line| seen.insert(line.clone()));
        }
        self
    }
}

/// Returns the path of the key `name` in `table`.
fn key(table: &'static str, name: &'static str) -> Vec<Key> {
    vec![Key::table(table), Key::table(name)]
}
