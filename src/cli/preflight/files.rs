//! Checks whether existing secrets, keys and certificates are usable. A start creates missing ones; the check does not.

use std::path::Path;

use anyhow::{Context, Result};
use sallyport_core::{
    config::{CertificatePaths, Config, Key, TlsMode},
    secrets::secret_file,
};
use sallyport_gateway as gateway;
use sallyport_gateway::{
    GeoIp,
    edge::{acme::Acme, certificates::CertificateFiles},
    identity::link::LinkKeys,
    store::Secrets,
};
use secrecy::ExposeSecret;

use super::{Depth, Inspection};

impl Inspection<'_> {
    pub(super) fn secrets(&mut self) {
        let config = self.config;
        let dir = config.secrets_dir();
        let whole = ["offlinetube.key", "worker.key"].map(|name| whole_secret(&dir.join(name)));
        for fault in
            whole.into_iter().chain([link_keys(&dir.join("link.keys")), token_keys(config)]).filter_map(Result::err)
        {
            self.fault_of_file(&format!("{fault:#}"));
        }
        if let Err(error) = gateway::client_authorities(config) {
            self.fault_of_file(&error);
        }
        if let Some(Err(error)) = config.geoip.as_deref().map(GeoIp::load) {
            self.fault_of_file(&error);
        }
    }

    pub(super) fn certificates(&mut self, depth: Depth) {
        let config = self.config;
        if let TlsMode::Acme { acme, .. } = &config.tls.mode
            && let Err(error) = Acme::open(acme, &config.acme_dir())
        {
            self.fault_of_file(&error);
        }
        if let TlsMode::Files(paths) = &config.tls.mode {
            self.certificate(&[Key::table("tls")], paths, depth);
        }
        for (i, paths) in config.tls.certificates.iter().enumerate() {
            self.certificate(&[Key::table("tls"), Key::element("certificate", i)], paths, depth);
        }
    }

    fn certificate(&mut self, table: &[Key], paths: &CertificatePaths, depth: Depth) {
        let key = |name| [table, &[Key::table(name)]].concat();
        match CertificateFiles::load(paths) {
            Ok(files) if depth == Depth::Everything => {
                if let Some(what) = files.out_of_time(jiff::Timestamp::now()) {
                    self.fault(key("cert"), what);
                }
            }
            Ok(_) => {}
            Err(error) => self.fault(key(error.at()), sallyport_core::files::os_error::plain(&error.to_string())),
        }
    }
}

fn whole_secret(path: &Path) -> Result<()> {
    if let Some(secret) = secret_file::read(path)? {
        secret_file::long_enough(secret, &path.display().to_string())?;
    }
    Ok(())
}

fn link_keys(path: &Path) -> Result<()> {
    let keys = secret_file::read(path)?;
    let parsed = keys.map(|keys| LinkKeys::parse(keys.expose_secret())).transpose();
    parsed.with_context(|| path.display().to_string()).map(drop)
}

/// Reads the public keys, for which any secret will do.
fn token_keys(config: &Config) -> Result<()> {
    let secret = Secrets::look(config).jwt_at_hand()?.unwrap_or_default();
    gateway::jwt_verifier(config, &secret)?;
    Ok(())
}
