//! When a changed setting takes effect, in one table that has every setting.

use std::fmt;

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// At the reload.
    AtOnce,
    /// At the reload in policies, and after a restart in the worker and the egress guard.
    AtOnceInPolicies,
    /// After a restart of these processes.
    AfterRestart(&'static str),
}

use Effect::{AfterRestart, AtOnce, AtOnceInPolicies};

const GATEWAY: Effect = AfterRestart("the gateway");
const WORKER: Effect = AfterRestart("the worker");
const EGRESS: Effect = AfterRestart("the worker and the egress guard");
const EVERYTHING: Effect = AfterRestart("all processes");

/// Settings by name, or by a prefix that ends with a dot. The longest match applies.
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
    /// Returns when a change of the setting `name` takes effect. A setting that is missing from the table, which a test rules out, counts as
    /// needing a restart.
    pub(crate) fn of(name: &str) -> Self {
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
                "a setting has changed; it applies now in the gateway's policies, and after a restart in the worker and the egress guard",
            ),
            AfterRestart(whom) => write!(f, "this change waits for a restart of {whom}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use sallyport_core::config;

    #[test]
    fn every_setting_is_in_the_table() {
        let text = "[tls.clients]\nca = \"ca.pem\"\n[[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"a\"\n\
            [[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\n";
        let settings = config::read(Path::new("/etc/config.toml"), text).unwrap().settings;
        assert!(settings.len() > 60, "{settings:?}");
        for name in settings.keys() {
            assert!(known(name).is_some(), "{name} is missing from the table");
        }
    }

    #[test]
    fn the_longest_match_applies() {
        assert_eq!(Effect::of("worker.retries"), WORKER);
        assert_eq!(Effect::of("worker.allow_private"), AtOnceInPolicies);
        assert_eq!((Effect::of("tls.clients.ca"), Effect::of("tls.mode")), (AtOnce, GATEWAY));
        assert_eq!(Effect::of("egress.ports"), EGRESS);
    }
}
