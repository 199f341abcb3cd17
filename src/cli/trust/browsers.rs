//! The certificate stores of Chromium and Firefox: NSS databases in the home folder, changed with `certutil`.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::{Authority, Store, StoreOutcome, TrustAction, program};
use crate::cli::output::quoted;

const CERTUTIL: &str = "certutil";
/// The file that marks a folder as a database of the current format.
const DATABASE: &str = "cert9.db";
/// Paths below the home folder; some packages have their own.
const CHROMIUM: [&str; 3] = [".pki/nssdb", ".local/share/pki/nssdb", "snap/chromium/current/.pki/nssdb"];
const FIREFOX: [&str; 4] = [
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];

/// One database.
struct Database<'a> {
    folder: &'a Path,
    authority: &'a Authority,
}

/// Whether a database trusts the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrustState {
    Trusted,
    Known,
    Unknown,
}

/// Updates every database that exists.
pub(super) fn stores(authority: &Authority, action: TrustAction) -> Vec<Store> {
    let Some(home) = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) else {
        return Vec::new();
    };
    let found = databases(&home);
    let bring = |(kind, folder): (&'static str, PathBuf)| {
        let outcome = Database { folder: &folder, authority }.bring(action);
        Store { kind, path: folder, outcome }
    };
    found.into_iter().map(bring).collect()
}

fn databases(home: &Path) -> Vec<(&'static str, PathBuf)> {
    let chromium = CHROMIUM.iter().map(|folder| ("chromium", home.join(folder)));
    let profiles = FIREFOX.iter().flat_map(|folder| fs::read_dir(home.join(folder)).into_iter().flatten().flatten());
    let mut profiles: Vec<_> = profiles.map(|profile| ("firefox", profile.path())).collect();
    profiles.sort();
    chromium.chain(profiles).filter(|(_, folder)| folder.join(DATABASE).is_file()).collect()
}

impl Database<'_> {
    fn bring(&self, action: TrustAction) -> StoreOutcome {
        let Some(certutil) = program(CERTUTIL) else {
            let what = "certutil is not installed (libnss3-tools on Debian, nss-tools on Fedora)";
            return StoreOutcome::missing(
                what,
                format!("sudo apt-get install libnss3-tools && {}", self.command(action)),
            );
        };
        if !self.is_ours() {
            let what = "it belongs to another account; run this as that account";
            return StoreOutcome::missing(what, self.command(action));
        }
        match (action, self.state(&certutil)) {
            (TrustAction::Trust, TrustState::Trusted) => return StoreOutcome::Done { what: "already trusted" },
            (TrustAction::Remove, TrustState::Unknown) => return StoreOutcome::Done { what: "not trusted" },
            _ => {}
        }
        let output = self.run(&certutil, &self.arguments(action));
        match (action, self.state(&certutil)) {
            (TrustAction::Trust, TrustState::Trusted) => {
                StoreOutcome::Done { what: "now trusted; restart the browser" }
            }
            (TrustAction::Remove, TrustState::Unknown) => {
                StoreOutcome::Done { what: "no longer trusted; restart the browser" }
            }
            _ => {
                let said =
                    output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stderr).trim().to_owned());
                StoreOutcome::missing(format!("certutil: {said}"), self.command(action))
            }
        }
    }

    /// Whether the database belongs to this account. A file written by root could become unwritable for its owner.
    fn is_ours(&self) -> bool {
        let owner = fs::metadata(self.folder.join(DATABASE)).map(|m| m.uid());
        owner.is_ok_and(|uid| uid == rustix::process::geteuid().as_raw())
    }

    /// Parses certutil's list. Each line ends in trust flags; `C` marks a certificate authority trusted for servers.
    fn state(&self, certutil: &Path) -> TrustState {
        let Ok(output) = self.run(certutil, &["-L".to_owned()]) else { return TrustState::Unknown };
        let list = String::from_utf8_lossy(&output.stdout);
        let mut flags = list.lines().filter_map(|line| line.strip_prefix(&*self.authority.label)).map(str::trim);
        match flags.next() {
            Some(flags) if flags.starts_with('C') => TrustState::Trusted,
            Some(_) => TrustState::Known,
            None => TrustState::Unknown,
        }
    }

    fn arguments(&self, action: TrustAction) -> Vec<String> {
        let label = &*self.authority.label;
        let certificate = self.authority.path.to_string_lossy();
        let arguments = match action {
            TrustAction::Trust => vec!["-A", "-t", "C,,", "-n", label, "-i", &certificate],
            TrustAction::Remove => vec!["-D", "-n", label],
        };
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Runs certutil without input, so that it cannot wait for an answer, such as a primary password.
    fn run(&self, certutil: &Path, arguments: &[String]) -> std::io::Result<Output> {
        Command::new(certutil).arg("-d").arg(self.place()).args(arguments).stdin(Stdio::null()).output()
    }

    fn command(&self, action: TrustAction) -> String {
        let arguments = self.arguments(action).iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ");
        format!("{CERTUTIL} -d {} {arguments}", quoted(&self.place()))
    }

    fn place(&self) -> String {
        format!("sql:{}", self.folder.display())
    }
}
