//! Lists every setting with its written or default value, to find out what a reload has changed, and when each change takes effect.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    effect::{Effect, Keys, Named, Waiter},
    top_level::ConfigToml,
};

/// Settings by name, such as `gateway.drain_timeout` or `app.0.upstream`, as JSON.
pub type Settings = BTreeMap<String, String>;

pub(super) fn settings(written: &ConfigToml) -> Settings {
    let mut settings = Settings::new();
    if let Ok(tree) = serde_json::to_value(written) {
        flatten("", &tree, &mut settings);
    }
    settings
}

fn flatten(name: &str, value: &Value, settings: &mut Settings) {
    let under = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                flatten(&under(key), value, settings);
            }
        }
        Value::Array(tables) if tables.iter().any(Value::is_object) => {
            for (i, value) in tables.iter().enumerate() {
                flatten(&under(&i.to_string()), value, settings);
            }
        }
        Value::Null => {}
        _ => {
            settings.insert(name.to_owned(), value.to_string());
        }
    }
}

/// Returns every key of the file as `table.key`, in the order of the file, and when a change of it takes effect.
pub fn every_key() -> Vec<(String, Effect)> {
    let mut found = Vec::new();
    collect("", ConfigToml::KEYS, &mut found);
    found
}

fn collect(table: &str, keys: Keys, found: &mut Vec<(String, Effect)>) {
    for (name, named) in keys {
        let name = if table.is_empty() { (*name).to_owned() } else { format!("{table}.{name}") };
        match named {
            Named::Key(effect) => found.push((name, *effect)),
            Named::Table(keys) => collect(&name, keys, found),
        }
    }
}

impl Effect {
    /// Returns when a change of the setting `name`, such as `app.0.upstream`, takes effect. A setting that no table declares, which a test
    /// rules out, counts as needing a restart.
    pub fn of(name: &str) -> Self {
        declared(name).unwrap_or(Self::AfterRestart(Waiter::EveryProcess))
    }
}

fn declared(name: &str) -> Option<Effect> {
    let is_index = |step: &&str| step.bytes().all(|b| b.is_ascii_digit());
    let mut steps = name.split('.').filter(|step| !is_index(step));
    steps.try_fold(Named::Table(ConfigToml::KEYS), Named::get)?.latest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_by_their_path_from_the_top() {
        let written: ConfigToml =
            toml::from_str("[gateway]\nlisten = [\"[::]:1\"]\n[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"u\"")
                .unwrap();
        let settings = settings(&written);
        assert_eq!(settings["gateway.listen"], "[\"[::]:1\"]");
        assert_eq!(settings["app.0.upstream"], "\"u\"");
        assert_eq!(settings["gateway.drain_timeout"], "\"10s\"");
    }

    const EVERY_TABLE: &str = "[tls.clients]\nca = \"ca.pem\"\n[tls.acme.dns]\nhook = [\"x\"]\n\
        [[tls.acme.authority]]\ndirectory = \"https://ca.example\"\n[[tls.certificate]]\ncert = \"a\"\nkey = \"b\"\n\
        [[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"a\"\n\
        [[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\n";

    #[test]
    fn every_setting_declares_its_effect() {
        for text in ["", EVERY_TABLE] {
            let settings = settings(&toml::from_str(text).unwrap());
            assert!(settings.len() > 60, "{settings:?}");
            for name in settings.keys() {
                assert!(declared(name).is_some(), "{name} has no effect");
            }
        }
    }

    #[test]
    fn an_effect_is_found_by_the_name_of_a_setting() {
        for (name, effect) in [
            ("data_dir", Effect::AfterRestart(Waiter::EveryProcess)),
            ("worker.retries", Effect::AfterRestart(Waiter::Worker)),
            ("worker.allow_private", Effect::AtOnceInPolicies),
            ("tls.clients.ca", Effect::AtOnce),
            ("tls.mode", Effect::AfterRestart(Waiter::Gateway)),
            ("tls.acme.authority.1.directory", Effect::AfterRestart(Waiter::Gateway)),
            ("egress.ports", Effect::AfterRestart(Waiter::WorkerAndEgress)),
            ("app.0.upstream", Effect::AtOnce),
            ("app", Effect::AtOnce),
            ("jwt.key", Effect::AtOnce),
            ("jwt", Effect::AfterRestart(Waiter::Gateway)),
            ("gateway.unknown", Effect::AfterRestart(Waiter::EveryProcess)),
            ("gateway.listen.unknown", Effect::AfterRestart(Waiter::EveryProcess)),
        ] {
            assert_eq!(Effect::of(name), effect, "{name}");
        }
    }
}
