//! Lists every setting with its written or default value, to find out what a reload has changed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::top_level::ConfigToml;

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
}
