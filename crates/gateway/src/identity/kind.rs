//! The kinds of credentials, and what each of them implies. Every question is an exhaustive match, so that a new kind does not compile
//! before each of them is answered for it.

use crate::limits::Acquaintance;

/// Lists the kinds once, so that none can be missing from [`CredentialKind::ALL`].
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The kinds of credentials, as policies and logs name them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        pub enum CredentialKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl CredentialKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns the name, as logged.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// An API key.
    ApiKey = "api-key",
    /// A JSON Web Token.
    Jwt = "jwt",
    /// A signed link in Sallyport's format.
    Link = "link",
    /// A signed link in OfflineTube's format.
    OfflineTubeLink = "offlinetube-link",
    /// The client certificate from the TLS handshake.
    ClientCertificate = "client-certificate",
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialKinds(u8);

impl CredentialKind {
    /// Returns true if it is a link: anyone may hold it, it only reads, and it opens one target without any scope.
    #[must_use]
    pub const fn is_link(self) -> bool {
        match self {
            Self::Link | Self::OfflineTubeLink => true,
            Self::ApiKey | Self::Jwt | Self::ClientCertificate => false,
        }
    }

    /// Returns true if a browser sends it along with requests by any page, without being asked to (CSRF).
    ///
    /// A page must know a key, a token or a link to send it.
    #[must_use]
    pub const fn is_sent_unasked(self) -> bool {
        match self {
            Self::ClientCertificate => true,
            Self::ApiKey | Self::Jwt | Self::Link | Self::OfflineTubeLink => false,
        }
    }

    /// Returns true if clients may send it as the password of Basic authentication.
    #[must_use]
    pub const fn is_a_password(self) -> bool {
        match self {
            Self::ApiKey => true,
            Self::Jwt | Self::Link | Self::OfflineTubeLink | Self::ClientCertificate => false,
        }
    }

    /// Returns how well the holder is known: a link may be public, any other credential belongs to one user.
    #[must_use]
    pub const fn acquaintance(self) -> Acquaintance {
        if self.is_link() { Acquaintance::Stranger } else { Acquaintance::Known }
    }
}

impl CredentialKinds {
    /// Returns true if `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: CredentialKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Returns true if `holds` is true of any kind in the set.
    #[must_use]
    pub fn any(self, holds: impl Fn(CredentialKind) -> bool) -> bool {
        CredentialKind::ALL.iter().any(|kind| self.contains(*kind) && holds(*kind))
    }

    /// Returns true if the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<CredentialKind> for CredentialKinds {
    fn from_iter<I: IntoIterator<Item = CredentialKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_logs_use_the_same_names() {
        for kind in CredentialKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(serde_json::from_value::<CredentialKind>(kind.name().into()).unwrap(), *kind);
        }
    }

    #[test]
    fn a_set_asks_only_the_kinds_that_it_contains() {
        let set: CredentialKinds = [CredentialKind::Jwt, CredentialKind::Link].into_iter().collect();
        assert!(set.any(CredentialKind::is_link) && !set.any(CredentialKind::is_sent_unasked));
        assert!(!CredentialKinds::default().any(|_| true));
    }
}
