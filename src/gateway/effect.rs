//! When a changed setting is in force: every setting has a place in one table.

use std::fmt;

/// When a changed setting is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// With the reload.
    AtOnce,
    /// With the reload as far as policies go, and in the worker and the egress guard after a restart of theirs.
    AtOnceInPolicies,
    /// Once these have been restarted.
    AfterRestart(&'static str),
}

use Effect::{AfterRestart, AtOnce, AtOnceInPolicies};

const GATEWAY: Effect = AfterRestart("the gateway");
const WORKER: Effect = AfterRestart("the worker");
const EGRESS: Effect = AfterRestart("the worker and the egress guard");
const EVERYTHING: Effect = AfterRestart("everything");

/// Settings by their names, or by what their names begin with; the longest that fits counts.
const EFFECTS: [(&str, Effect); 39] = [
    ("data_dir", EVERYTHING),
    ("policies_dir", AtOnce),
    ("gateway.listen", GATEWAY),
    ("gateway.http_listen", GATEWAY),
    ("gateway.admin_listen", GATEWAY),
    ("gateway.admin_hosts", AtOnce),
    ("gateway.public_url", GATEWAY),
    ("gateway.trusted_proxies", AtOnce),
    ("gateway.proxy_protocol", AtOnce),
    ("gateway.forwarded_header", AtOnce),
    ("gateway.shared_addresses", AtOnce),
    ("gateway.geoip", AtOnce),
    ("gateway.max_tracked_clients", AtOnce),
    ("gateway.max_connections", GATEWAY),
    ("gateway.max_connections_per_client", GATEWAY),
    ("gateway.max_requests", AtOnce),
    ("gateway.max_requests_per_client", AtOnce),
    ("gateway.max_memory", AtOnce),
    ("gateway.min_body_rate", AtOnce),
    ("gateway.send_timeout", AtOnce),
    ("gateway.pause_timeout", AtOnce),
    ("gateway.drain_timeout", AtOnce),
    ("tls.", GATEWAY),
    ("tls.clients.", AtOnce),
    ("jwt.secret_env", GATEWAY),
    ("jwt.issuer", AtOnce),
    ("jwt.audience", AtOnce),
    ("jwt.leeway", AtOnce),
    ("jwt.key.", AtOnce),
    ("links.", AtOnce),
    ("bans.", AtOnce),
    ("log.", EVERYTHING),
    ("worker.", WORKER),
    ("worker.allow_private", AtOnceInPolicies),
    ("egress.", EGRESS),
    ("app.", AtOnce),
    ("insecure.worker_on_any_address", WORKER),
    ("insecure.admin_on_any_address", GATEWAY),
    ("insecure.partial_sandbox", WORKER),
];

impl Effect {
    /// When a change of the setting `name` is in force. One that has no place in the table, which a test looks for, is taken for
    /// one that waits.
    pub(super) fn of(name: &str) -> Self {
        known(name).unwrap_or(EVERYTHING)
    }
}

fn known(name: &str) -> Option<Effect> {
    let fits = |setting: &&(&str, Effect)| match setting.0.strip_suffix('.') {
        Some(_) => name.starts_with(setting.0),
        None => name == setting.0,
    };
    EFFECTS.iter().filter(fits).max_by_key(|(setting, _)| setting.len()).map(|(_, effect)| *effect)
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtOnce => f.write_str("a setting has changed"),
            AtOnceInPolicies => f.write_str(
                "a setting has changed; the gateway's policies follow it now, the worker and the egress guard after a restart",
            ),
            AfterRestart(whom) => write!(f, "this change waits for a restart of {whom}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn every_setting_has_its_place() {
        let text = "[tls.clients]\nca = \"ca.pem\"\n[[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"a\"\n\
            [[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\n";
        let settings = config::read(Path::new("/etc/config.toml"), text).unwrap().settings;
        assert!(settings.len() > 60, "{settings:?}");
        for name in settings.keys() {
            assert!(known(name).is_some(), "{name} has no place in the table");
        }
    }

    #[test]
    fn the_longest_name_counts() {
        assert_eq!(Effect::of("worker.retries"), WORKER);
        assert_eq!(Effect::of("worker.allow_private"), AtOnceInPolicies);
        assert_eq!((Effect::of("tls.clients.ca"), Effect::of("tls.mode")), (AtOnce, GATEWAY));
        assert_eq!(Effect::of("egress.ports"), EGRESS);
    }
}
