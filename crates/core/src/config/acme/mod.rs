//! The ACME configuration: which certificates to obtain, from which authorities, and how to prove control of a domain.

mod authority;
mod challenge;
mod dns;
mod domain;
mod key;

use std::time;

use self::{authority::AuthorityToml, dns::DnsToml};
pub use self::{
    authority::{AuthorityConfig, ExternalAccountConfig},
    challenge::{ChallengeConfig, ChallengeKind},
    dns::{DnsConfig, DnsUpdateConfig, DnsWriter, TsigAlgorithm},
    domain::{Domain, InvalidDomain},
    key::AcmeKeyError,
};
use super::{
    base::Base,
    effect::{Named::Table, RESTART_GATEWAY, toml_table},
    fault::Faults,
    tls::TlsToml,
    units::Duration,
};

const MIN_RETRY: time::Duration = time::Duration::from_secs(1);

toml_table! {
    /// `[tls.acme]`
    struct AcmeToml {
        challenges: Vec<ChallengeKind> = Vec::new() => RESTART_GATEWAY;
        retry: Duration = Duration::seconds(600) => RESTART_GATEWAY;
        authority: Vec<AuthorityToml> = Vec::new() => Table(AuthorityToml::KEYS);
        dns: Option<DnsToml> = None => Table(DnsToml::KEYS);
    }
}

/// Which certificates to obtain, from which authorities, and how to prove control of the domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The domains; each gets one certificate.
    pub domains: Vec<Domain>,
    /// The contact address for the authorities.
    pub email: Option<String>,
    /// The authorities, tried in this order until one issues a certificate.
    pub authorities: Vec<AuthorityConfig>,
    /// The ways to prove control of a domain, in the order in which they are tried.
    pub challenges: Vec<ChallengeConfig>,
    /// The delay after the first failure; it doubles with each further one.
    pub retry: time::Duration,
}

impl AcmeConfig {
    /// Resolves the ACME part of `[tls]`; `plain` says whether there is a plain listener.
    pub(super) fn resolve(tls: &TlsToml, plain: bool, base: Base<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        let before = faults.count();
        let domains: Vec<Domain> = faults.all_parsed("domains", &tls.domains);
        if tls.domains.is_empty() {
            faults.add_here("mode \"acme\" requires a domain; write domains = [\"home.example.org\"]");
        }
        if tls.email.as_deref().is_some_and(|email| !is_email(email)) {
            faults.add("email", "not an email address; write, for example, \"me@example.org\"");
        }
        let dns = tls.acme.dns.as_ref().and_then(|dns| DnsConfig::resolve(dns, base, &mut faults.within("acme")));
        let challenges = ChallengeConfig::resolve_all(&tls.acme, dns.as_ref(), plain, &mut faults.within("acme"));
        let by_dns = challenges.iter().any(|challenge| matches!(challenge, ChallengeConfig::Dns01(_)));
        if domains.iter().any(Domain::is_wildcard) && !by_dns {
            faults.add(
                "domains",
                "authorities issue wildcard certificates only for \"dns-01\"; set [tls.acme.dns], or list each host",
            );
        }
        let mut of_acme = faults.within("acme");
        let authorities = AuthorityConfig::resolve_all(&tls.acme.authority, base, &mut of_acme);
        if tls.acme.retry.0 < MIN_RETRY {
            of_acme.add("retry", "must be at least \"1s\"");
        }
        (faults.count() == before).then(|| Self {
            domains,
            email: tls.email.clone(),
            authorities,
            challenges,
            retry: tls.acme.retry.0,
        })
    }
}

/// A check that is strict enough to keep anything but one address out of a `mailto:` URL (RFC 6068).
fn is_email(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"?&,;:<>()[]\\\"%".contains(&b);
    text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && host.contains('.') && !host.contains('@'))
        && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_one_address() {
        assert!(is_email("me@example.org") && is_email("me+acme@example.org"));
        for text in ["", "me", "me@", "@example.org", "me@host", "a@b.c,d@e.f", "a@b.c?subject=x", "a@b@c.d", "a b@c.d"]
        {
            assert!(!is_email(text), "{text}");
        }
    }
}
