//! Selects the certificate for the name that a client asks for, and determines which other names its connection may be used for.

use std::sync::Arc;

use futures_util::future::join_all;
use rustls::{
    client::verify_server_name,
    pki_types::ServerName,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use super::{certificates::CertificateFiles, challenge_responder::ChallengeResponder};

/// All certificates that are served.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// In order of precedence. The first one that is available also serves clients that send no name, or a name that no certificate covers.
    all: Vec<CertificateFiles>,
    shown: Arc<ChallengeResponder>,
}

/// The name that a TLS connection was made for, and the certificate that its client saw.
#[derive(Debug)]
pub(crate) struct ServedName {
    name: Box<str>,
    certificate: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Creates the set from all certificates, in order of precedence, and the challenge responses for ACME authorities.
    #[must_use]
    pub(crate) fn new(all: Vec<CertificateFiles>, shown: Arc<ChallengeResponder>) -> Self {
        Self { all, shown }
    }

    /// Returns the answer to a request for the challenge `token`, while one is served.
    #[must_use]
    pub(crate) fn challenge_answer(&self, token: &str) -> Option<String> {
        self.shown.answer(token)
    }

    /// Returns the names that a connection may be used for whose client asked for `name`.
    #[must_use]
    pub(crate) fn served(&self, name: &str) -> ServedName {
        ServedName { name: name.into(), certificate: self.choose(Some(name)) }
    }

    /// Returns when the first of them expires, in seconds since the Unix epoch.
    #[must_use]
    pub(crate) fn ends(&self) -> Option<i64> {
        self.all.iter().filter_map(CertificateFiles::ends).min()
    }

    /// Applies changes of the files until `stop` becomes true.
    pub(crate) async fn watch(self: Arc<Self>, stop: watch::Receiver<bool>) {
        join_all(self.all.iter().map(|files| files.watch(stop.clone()))).await;
    }

    /// Returns the first certificate that covers the name, or else the first of all.
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let mut there = self.all.iter().filter_map(CertificateFiles::current);
        let first = there.next()?;
        let Some(name) = name.filter(|name| self.all.len() > 1 && !covers(&first, name)) else { return Some(first) };
        there.find(|certificate| covers(certificate, name)).or(Some(first))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if ChallengeResponder::is_asked(&hello) {
            return self.shown.certificate(&hello);
        }
        self.choose(hello.server_name())
    }
}

impl ServedName {
    /// Returns true if the connection may carry a request for `host` (a name or an address, without port).
    ///
    /// Browsers send requests for every name that the certificate covers over one connection (RFC 9113, section 9.1.1).
    #[must_use]
    pub(crate) fn covers(&self, host: &str) -> bool {
        let of_certificate = || self.certificate.as_ref().is_some_and(|certificate| covers(certificate, host));
        self.name.eq_ignore_ascii_case(host) || of_certificate()
    }
}

/// Returns true if one of the certificate's names matches `name`, as clients compare them (RFC 9525).
pub(super) fn covers(certificate: &CertifiedKey, name: &str) -> bool {
    let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let Ok(name) = ServerName::try_from(name) else { return false };
    let Ok(leaf) = certificate.end_entity_cert() else { return false };
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::edge::tls;
    use sallyport_core::config::CertificatePaths;

    fn files(dir: &Path, names: &[&str]) -> CertificateFiles {
        let cert = dir.join(format!("{}.pem", names[0]));
        let key = dir.join(format!("{}.key", names[0]));
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        CertificateFiles::load(&CertificatePaths { cert, key }).unwrap()
    }

    #[test]
    fn the_first_certificate_that_covers_the_name_is_served_and_else_the_first_of_all() {
        tls::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let [home, wild, late] =
            [&["home.example"][..], &["*.wild.example"], &["a.wild.example"]].map(|n| files(dir.path(), n));
        let all = [&home, &wild, &late].map(CertificateFiles::current);
        let certificates = Certificates::new(vec![home, wild, late], Arc::default());
        for (name, expected) in [
            (Some("home.example"), 0),
            (Some("a.wild.example"), 1),
            (Some("b.wild.example"), 1),
            (Some("wild.example"), 0),
            (Some("a.b.wild.example"), 0),
            (Some("elsewhere.example"), 0),
            (None, 0),
        ] {
            let chosen = certificates.choose(name).unwrap();
            let expected = all[expected].as_ref().unwrap();
            assert!(Arc::ptr_eq(&chosen, expected), "{name:?}");
        }
    }

    #[test]
    fn a_connection_may_be_used_for_its_own_name_and_for_all_names_of_its_certificate() {
        tls::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let names = ["home.example", "*.home.example", "192.0.2.1", "2001:db8::1"];
        let all = vec![files(dir.path(), &names), files(dir.path(), &["other.example"])];
        let certificates = Certificates::new(all, Arc::default());
        let served = certificates.served("home.example");
        for host in ["home.example", "HOME.example", "a.home.example", "A.Home.Example", "192.0.2.1", "[2001:db8::1]"] {
            assert!(served.covers(host), "{host}");
        }
        for host in ["other.example", "a.b.home.example", "192.0.2.2", "[2001:db8::2]", "xhome.example", "", "a_b", "-"]
        {
            assert!(!served.covers(host), "{host}");
        }
        let unknown = certificates.served("unknown.example");
        assert!(unknown.covers("unknown.example") && unknown.covers("home.example"));
        assert!(!unknown.covers("other.example"));
    }
}
