//! `[tls.clients]`: client certificates that authenticate users.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{
    base::Base,
    effect::{AT_ONCE, toml_table},
};

toml_table! {
    /// `[tls.clients]`: client certificates that authenticate users.
    struct ClientsToml {
        ca: PathBuf => AT_ONCE;
        #[serde(default)]
        crl: Vec<PathBuf> => AT_ONCE;
        #[serde(default)]
        user: UserField => AT_ONCE;
    }
}

/// The field of a certificate that holds the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserField {
    /// The subject's common name.
    #[default]
    CommonName,
    /// The alternative name of type e-mail (rfc822Name).
    Email,
    /// The alternative name of type DNS.
    Dns,
}

/// The client certificates that authenticate users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsConfig {
    /// The file with the authorities' certificates in PEM.
    pub ca: PathBuf,
    /// The files with their revocation lists in PEM.
    pub crl: Vec<PathBuf>,
    /// The field of a certificate that holds the user's name.
    pub user: UserField,
}

impl ClientsConfig {
    pub(super) fn resolve(clients: &ClientsToml, base: Base<'_>) -> Self {
        Self { ca: base.path(&clients.ca), crl: base.paths(&clients.crl), user: clients.user }
    }

    /// Returns the files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.ca).chain(&self.crl)
    }
}
