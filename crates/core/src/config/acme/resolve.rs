//! Resolves `[tls]` as written to a validated [`AcmeConfig`].

use std::{path::Path, time::Duration};

use url::Url;

use super::{
    AcmeConfig, AuthorityConfig, ChallengeConfig, ChallengeKind, DnsConfig, DnsUpdateConfig, DnsWriter, Domain,
    ExternalAccountConfig,
    wire::{Wire, WireAuthority, WireDns},
};
use crate::config::{
    resolve::{Faults, Key, program},
    wire::Tls,
};

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

impl Faults {
    /// Resolves the ACME part of `[tls]`; `plain` says whether there is a plain listener.
    pub(in crate::config) fn acme(&mut self, tls: &Tls, plain: bool, base: &Path) -> Option<AcmeConfig> {
        let before = self.count();
        let domain_key = |index| vec![Key::table("tls"), Key { name: "domains", index: Some(index) }];
        let domains = tls.domains.iter().enumerate();
        let domains: Vec<Domain> = domains.filter_map(|(i, text)| self.parsed(domain_key(i), text)).collect();
        if tls.domains.is_empty() {
            self.add(
                vec![Key::table("tls")],
                "mode \"acme\" requires a domain; write domains = [\"home.example.org\"]",
            );
        }
        if tls.email.as_deref().is_some_and(|email| !is_email(email)) {
            self.add(
                vec![Key::table("tls"), Key::table("email")],
                "not an email address; write, for example, \"me@example.org\"",
            );
        }
        let dns = tls.acme.dns.as_ref().and_then(|dns| self.dns(dns, base));
        let challenges = self.challenges(&tls.acme, dns.as_ref(), plain);
        if domains.iter().any(Domain::is_wildcard) && !challenges.iter().any(|c| matches!(c, ChallengeConfig::Dns01(_)))
        {
            self.add(
                vec![Key::table("tls"), Key::table("domains")],
                "authorities issue wildcard certificates only for \"dns-01\"; set [tls.acme.dns], or list each host",
            );
        }
        let authorities = self.authorities(&tls.acme.authority, base);
        if tls.acme.retry.0 < Duration::from_secs(1) {
            self.add(acme_key("retry"), "must be at least \"1s\"");
        }
        let (email, retry) = (tls.email.clone(), tls.acme.retry.0);
        (self.count() == before).then_some(AcmeConfig { domains, email, authorities, challenges, retry })
    }

    fn challenges(&mut self, wire: &Wire, dns: Option<&DnsConfig>, plain: bool) -> Vec<ChallengeConfig> {
        let kinds = match (&*wire.challenges, dns) {
            ([], Some(_)) => &[ChallengeKind::Dns01][..],
            ([], None) if plain => &[ChallengeKind::TlsAlpn01, ChallengeKind::Http01],
            ([], None) => &[ChallengeKind::TlsAlpn01],
            (given, _) => given,
        };
        if kinds.contains(&ChallengeKind::Http01) && !plain {
            self.add(
                acme_key("challenges"),
                "\"http-01\" requires gateway.http_listen; set it, or remove this challenge",
            );
        }
        if kinds.contains(&ChallengeKind::Dns01) && wire.dns.is_none() {
            self.add(
                acme_key("challenges"),
                "\"dns-01\" requires [tls.acme.dns]; configure there how the record is written",
            );
        }
        let challenge = |kind: &ChallengeKind| match kind {
            ChallengeKind::TlsAlpn01 => Some(ChallengeConfig::TlsAlpn01),
            ChallengeKind::Http01 => Some(ChallengeConfig::Http01),
            ChallengeKind::Dns01 => dns.cloned().map(ChallengeConfig::Dns01),
        };
        kinds.iter().filter_map(challenge).collect()
    }

    fn dns(&mut self, dns: &WireDns, base: &Path) -> Option<DnsConfig> {
        let update = (&dns.server, &dns.zone, &dns.key_name, &dns.key_file);
        let writer = match (&*dns.hook, update) {
            ([command, arguments @ ..], (None, None, None, None)) => {
                DnsWriter::Hook(program(base, command), arguments.to_vec())
            }
            ([], (Some(server), Some(zone), Some(key_name), Some(key_file))) => {
                let key = |name| vec![Key::table("tls"), Key::table("acme"), Key::table("dns"), Key::table(name)];
                let zone: Domain = self.parsed(key("zone"), zone.trim_end_matches('.'))?;
                DnsWriter::Update(DnsUpdateConfig {
                    server: *server,
                    zone: zone.to_string(),
                    key_name: key_name.clone(),
                    key_file: base.join(key_file),
                    key_algorithm: dns.key_algorithm,
                })
            }
            _ => {
                let what = "requires either hook, or all of server, zone, key_name and key_file";
                self.add(acme_key("dns"), what);
                return None;
            }
        };
        Some(DnsConfig { writer, wait: dns.wait.0 })
    }

    fn authorities(&mut self, wire: &[WireAuthority], base: &Path) -> Vec<AuthorityConfig> {
        if wire.is_empty() {
            let directory = Url::parse(LETS_ENCRYPT).into_iter();
            return directory
                .map(|directory| AuthorityConfig { directory, ca: None, external_account: None })
                .collect();
        }
        wire.iter().enumerate().filter_map(|(i, authority)| self.authority(i, authority, base)).collect()
    }

    fn authority(&mut self, index: usize, wire: &WireAuthority, base: &Path) -> Option<AuthorityConfig> {
        let table = [Key::table("tls"), Key::table("acme"), Key { name: "authority", index: Some(index) }];
        let key = |name| [&table[..], &[Key::table(name)]].concat();
        let directory: Url = self.parsed(key("directory"), &wire.directory)?;
        if directory.scheme() != "https" {
            self.add(key("directory"), "must be an https URL (RFC 8555, section 6.1)");
        }
        let external_account = match (&wire.key_id, &wire.key_file) {
            (Some(key_id), Some(file)) => {
                Some(ExternalAccountConfig { key_id: key_id.clone(), key_file: base.join(file) })
            }
            (None, None) => None,
            _ => {
                self.add(table.to_vec(), "key_id and key_file must be set together; set both or neither");
                None
            }
        };
        Some(AuthorityConfig { directory, ca: wire.ca.as_ref().map(|ca| base.join(ca)), external_account })
    }
}

fn acme_key(name: &'static str) -> Vec<Key> {
    vec![Key::table("tls"), Key::table("acme"), Key::table(name)]
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
