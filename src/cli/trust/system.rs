//! The certificate store of the machine, in the layout of Debian or Fedora: a folder for certificates, and a tool that builds from them the
//! bundle that programs read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use sallyport_core::secrets::secret_file::{self, SecretError};

use super::{Authority, Store, StoreOutcome, TrustAction, program};
use crate::cli::output::quoted;

/// One kind of store.
struct Layout {
    folder: &'static str,
    extension: &'static str,
    tool: &'static str,
    /// The file that the tool creates, with all authorities.
    bundle: &'static str,
    /// The folder in which the tool creates links to single authorities.
    links: Option<&'static str>,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        folder: "/usr/local/share/ca-certificates",
        extension: "crt",
        tool: "update-ca-certificates",
        bundle: "/etc/ssl/certs/ca-certificates.crt",
        links: Some("/etc/ssl/certs"),
    },
    Layout {
        folder: "/etc/pki/ca-trust/source/anchors",
        extension: "pem",
        tool: "update-ca-trust",
        bundle: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        links: None,
    },
];

/// Why the store could not be changed.
enum TrustStoreError {
    Write(PathBuf, io::Error),
    Tool(String),
}

pub(super) fn store(authority: &Authority, action: TrustAction) -> Store {
    let found = LAYOUTS.iter().find(|layout| Path::new(layout.folder).is_dir());
    let (path, outcome) = if let Some(layout) = found {
        let file = Path::new(layout.folder).join(&authority.label).with_extension(layout.extension);
        let outcome = layout.bring(authority, action, &file);
        (file, outcome)
    } else {
        let folders = LAYOUTS.map(|layout| layout.folder).join(" nor ");
        let what = format!("neither {folders} exists; Debian's package ca-certificates creates the first");
        (PathBuf::from("/etc"), StoreOutcome::missing(what, "sudo apt-get install ca-certificates"))
    };
    Store { kind: "system", path, outcome }
}

impl Layout {
    fn bring(&self, authority: &Authority, action: TrustAction, file: &Path) -> StoreOutcome {
        let whole = fs::read(file).is_ok_and(|bytes| bytes == authority.anchor.pem().as_bytes());
        match (action, self.is_trusted(authority)) {
            (TrustAction::Trust, true) if whole => return StoreOutcome::Done { what: "already trusted" },
            (TrustAction::Remove, false) if !file.exists() => return StoreOutcome::Done { what: "not trusted" },
            _ => {}
        }
        let Some(tool) = program(self.tool) else {
            let what = format!("{} is not installed", self.tool);
            return StoreOutcome::missing(what, "sudo apt-get install ca-certificates");
        };
        let fault = match action {
            TrustAction::Trust => add(authority, file, &tool),
            TrustAction::Remove => self.remove(file, &tool),
        };
        // What other programs read is decisive, not whether the tool reported success.
        match (fault, action, self.is_trusted(authority)) {
            (Ok(()), TrustAction::Trust, true) => StoreOutcome::Done { what: "now trusted" },
            (Ok(()), TrustAction::Remove, false) => StoreOutcome::Done { what: "no longer trusted" },
            (Ok(()), ..) => {
                self.missing(authority, action, file, format!("{} did not change {}", self.tool, self.bundle))
            }
            (Err(TrustStoreError::Write(path, error)), ..) => {
                self.missing(authority, action, file, format!("{}: {error}", path.display()))
            }
            (Err(TrustStoreError::Tool(what)), ..) => self.missing(authority, action, file, what),
        }
    }

    fn remove(&self, file: &Path, tool: &Path) -> Result<(), TrustStoreError> {
        let gone = |path: &Path| match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(TrustStoreError::Write(path.to_owned(), e)),
            _ => Ok(()),
        };
        gone(file)?;
        if let Some(link) = self.links.zip(file.file_stem()).map(|(links, stem)| Path::new(links).join(stem)) {
            // Debian's tool would keep the link until another certificate changes.
            gone(&link.with_extension("pem"))?;
        }
        run(tool)
    }

    fn is_trusted(&self, authority: &Authority) -> bool {
        let bundle = fs::read(self.bundle).unwrap_or_default();
        CertificateDer::pem_slice_iter(&bundle).flatten().any(|known| *known == *authority.anchor.der())
    }

    fn missing(&self, authority: &Authority, action: TrustAction, file: &Path, what: String) -> StoreOutcome {
        let [from, to] = [&authority.path, file].map(|path| quoted(&path.to_string_lossy()));
        let command = match action {
            TrustAction::Trust => format!("sudo install -m 0644 {from} {to} && sudo {}", self.tool),
            TrustAction::Remove => format!("sudo rm -f {to} && sudo {}", self.tool),
        };
        StoreOutcome::Missing { what, command }
    }
}

fn add(authority: &Authority, file: &Path, tool: &Path) -> Result<(), TrustStoreError> {
    match secret_file::write_public(file, authority.anchor.pem().as_bytes()) {
        Ok(()) => run(tool),
        Err(SecretError::Io(path, error)) => Err(TrustStoreError::Write(path, error)),
        Err(error) => Err(TrustStoreError::Tool(error.to_string())),
    }
}

fn run(tool: &Path) -> Result<(), TrustStoreError> {
    let output = Command::new(tool).stdin(Stdio::null()).output();
    let output = output.map_err(|e| TrustStoreError::Tool(format!("{}: {e}", tool.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(TrustStoreError::Tool(format!("{} failed with {}: {}", tool.display(), output.status, said.trim())))
}
