//! The environment layer: which variables are ours, and which of them are invalid.

use std::collections::BTreeSet;

use figment::{
    Figment,
    providers::{Env, Serialized},
};

use super::{
    diagnostic::{Diagnostic, Diagnostics},
    top_level::ConfigToml,
    words,
};

const PREFIX: &str = "SALLYPORT_";
/// Separates the names of tables and keys.
const SEPARATOR: &str = "__";

/// The values of the file, overridden by those of the environment.
pub(super) struct Layered {
    /// The result, without the variables that are invalid.
    pub(super) wire: ConfigToml,
    pub(super) faults: Diagnostics,
    /// The variables that were applied.
    pub(super) variables: Variables,
}

/// The names of our environment variables, as set.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(BTreeSet<String>);

impl Variables {
    fn set() -> Self {
        let all = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let ours = all.filter(|(name, value)| is_ours(name, &value.to_string_lossy()));
        Self(ours.map(|(name, _)| name).collect())
    }

    /// Returns the variable that sets the key at this path, or a table that contains it.
    pub(super) fn setting<'n>(&self, way: impl Iterator<Item = &'n str>) -> Option<&str> {
        let way: Vec<_> = way.map(str::to_ascii_uppercase).collect();
        let sets = |name: &&String| {
            let steps: Vec<_> = name.get(PREFIX.len()..).unwrap_or_default().split(SEPARATOR).collect();
            !steps.is_empty()
                && steps.len() <= way.len()
                && steps.iter().zip(&way).all(|(step, key)| step.eq_ignore_ascii_case(key))
        };
        self.0.iter().find(sets).map(String::as_str)
    }

    fn provider(&self) -> Env {
        let keys: BTreeSet<String> =
            self.0.iter().filter_map(|name| Some(name.get(PREFIX.len()..)?.to_ascii_lowercase())).collect();
        Env::prefixed(PREFIX).filter(move |key| keys.contains(&key.as_str().to_ascii_lowercase())).split(SEPARATOR)
    }
}

/// Overrides the values of the file with those of the environment.
pub(super) fn layered(file: &ConfigToml) -> Layered {
    let mut variables = Variables::set();
    let mut faults = Vec::new();
    loop {
        let error = match Figment::from(Serialized::defaults(file)).merge(variables.provider()).extract() {
            Ok(wire) => return Layered { wire, faults: Diagnostics(faults), variables },
            Err(error) => error,
        };
        let what = words::of_environment(&error.kind);
        let mut way = error.path.clone();
        if let figment::error::Kind::UnknownField(name, _) = &error.kind {
            way.push(name.clone());
        }
        let Some(culprit) = culprit(&variables, &way) else {
            // No single variable is at fault, so none is applied.
            let name = format!("{PREFIX}{}", way.join(SEPARATOR).to_uppercase());
            faults.push(Diagnostic::in_environment(name, what));
            return Layered { wire: file.clone(), faults: Diagnostics(faults), variables: Variables::default() };
        };
        faults.push(Diagnostic::in_environment(&culprit, what));
        variables.0.remove(&culprit);
    }
}

/// Returns the variable that caused an error at this path: one that sets it, or something below it.
fn culprit(variables: &Variables, way: &[String]) -> Option<String> {
    let setting = variables.setting(way.iter().map(String::as_str)).map(str::to_owned);
    let below = format!("{PREFIX}{}{SEPARATOR}", way.join(SEPARATOR));
    let below = |name: &&String| name.get(..below.len()).is_some_and(|start| start.eq_ignore_ascii_case(&below));
    setting.or_else(|| variables.0.iter().find(below).cloned())
}

/// Returns false for variables that Kubernetes sets in every container if there is a service of our name, such as
/// `SALLYPORT_PORT=tcp://10.0.0.1:443` or `SALLYPORT_SERVICE_HOST`.
fn is_ours(name: &str, value: &str) -> bool {
    let Some(key) =
        name.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX)).and(name.get(PREFIX.len()..))
    else {
        return false;
    };
    let key = format!("_{}", key.to_ascii_uppercase());
    if key.contains(SEPARATOR) {
        return true;
    }
    let of_service = key.ends_with("_SERVICE_HOST") || key.contains("_SERVICE_PORT");
    let of_port = key.contains("_PORT_") && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| key.contains(protocol));
    let link = key.ends_with("_PORT") && value.contains("://");
    !(of_service || of_port || link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_set_by_kubernetes_are_ignored_and_typing_errors_are_not() {
        for (name, value) in [
            ("SALLYPORT_PORT", "tcp://10.96.0.7:443"),
            ("SALLYPORT_SERVICE_HOST", "10.96.0.7"),
            ("SALLYPORT_SERVICE_PORT", "443"),
            ("SALLYPORT_SERVICE_PORT_HTTPS", "443"),
            ("SALLYPORT_PORT_443_TCP", "tcp://10.96.0.7:443"),
            ("SALLYPORT_PORT_443_TCP_ADDR", "10.96.0.7"),
            ("SALLYPORT_PORT_53_UDP_PROTO", "udp"),
            ("SALLYPORT_GATEWAY_SERVICE_HOST", "10.96.0.8"),
            ("SALLYPORT_GATEWAY_PORT", "tcp://10.96.0.8:443"),
            ("PATH", "/bin"),
        ] {
            assert!(!is_ours(name, value), "{name}");
        }
        for (name, value) in [
            ("SALLYPORT_GATEWAY__LISTEN", "[]"),
            ("SALLYPORT_DATA_DIR", "/x"),
            ("SALLYPORT_PORT", "443"),
            ("SALLYPORT_GATEWAY_LISTEN", "x"),
        ] {
            assert!(is_ours(name, value), "{name}");
        }
    }

    #[test]
    fn the_variable_that_sets_a_key_is_found() {
        let variables = Variables(["SALLYPORT_GATEWAY__LISTEN".to_owned(), "SALLYPORT_APP".to_owned()].into());
        let setting = |way: &[&str]| variables.setting(way.iter().copied()).map(str::to_owned);
        assert_eq!(setting(&["gateway", "listen"]).as_deref(), Some("SALLYPORT_GATEWAY__LISTEN"));
        assert_eq!(setting(&["app", "name"]).as_deref(), Some("SALLYPORT_APP"));
        assert_eq!(setting(&["gateway"]), None);
    }
}
