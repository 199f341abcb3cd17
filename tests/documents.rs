//! The documents match the program: what they list is what it has.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

use sallyport_core::{
    config::{Effect, every_key},
    files::os_error,
};
use sallyport_gateway::policy::Reason;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Returns the text of every source file of the program, without what is in separate files of tests.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> =
        ["src", "crates/core/src", "crates/gateway/src", "crates/worker/src"].map(|f| root.join(f)).into();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let is_test = path.file_stem().unwrap().to_str().unwrap().ends_with("tests");
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

/// Returns the text between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the text of a section, which ends where the next one begins.
fn section<'t>(document: &'t str, heading: &str) -> &'t str {
    let text = document.split_once(&format!("\n## {heading}\n")).unwrap().1;
    text.split_once("\n## ").map_or(text, |(section, _)| section)
}

/// Returns every `key = value` of a TOML file as `table.key`, including commented ones.
fn keys(text: &str) -> Vec<String> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[') {
            name.trim_start_matches('[').split(']').next().unwrap().clone_into(&mut table);
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            keys.push(format!("{table}.{key}"));
        }
    }
    keys
}

#[test]
fn every_reason_of_a_denial_is_explained_with_its_status() {
    let policies = read("docs/policies.md");
    for reason in Reason::ALL {
        let row = format!("| {} | `{}` |", reason.status().as_u16(), reason.code());
        assert!(policies.contains(&row), "docs/policies.md lacks {row}");
    }
}

#[test]
fn every_configuration_key_is_in_the_reference_and_explained() {
    let reference = read("config.toml");
    let document = read("docs/configuration.md");
    let known = keys(&reference);
    assert!(known.len() > 40, "{known:?}");
    for key in &known {
        let name = key.rsplit('.').next().unwrap();
        assert!(document.contains(&format!("`{name}`")), "docs/configuration.md lacks {key}");
    }
    // The tables declare what is parsed; a key that no document names would be one that users cannot know of.
    let declared = every_key();
    assert!(declared.len() > 100, "{declared:?}");
    for (key, _) in declared {
        let name = if key.contains('.') { key.clone() } else { format!(".{key}") };
        assert!(known.contains(&name), "config.toml does not name {key}");
    }
}

/// Returns the keys that a list such as "in `[gateway]`: `listen`; `[tls]`, except for `[tls.clients]`" names, and those that it excepts.
fn listed_keys(list: &str, every: &[(String, Effect)]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for item in list.split("\n* ") {
        let (table, item) = match item.strip_prefix("in `[").and_then(|item| item.split_once("]`:")) {
            Some((table, item)) => (format!("{table}."), item),
            None => (String::new(), item),
        };
        let (named, excepted) = item.split_once("except for").unwrap_or((item, ""));
        let quoted = |text: &str| -> Vec<String> {
            let names = text.split('`').skip(1).step_by(2);
            names.map(|name| format!("{table}{}", name.trim_matches(['[', ']']))).collect()
        };
        let is_in = |key: &str, names: &[String]| {
            names.iter().any(|name| key == name || key.strip_prefix(&**name).is_some_and(|rest| rest.starts_with('.')))
        };
        let named = quoted(named);
        let excepted = quoted(excepted);
        let matching = every.iter().filter(|(key, _)| is_in(key, &named) && !is_in(key, &excepted));
        keys.extend(matching.map(|(key, _)| key.clone()));
    }
    keys
}

#[test]
fn every_key_that_needs_a_restart_is_listed() {
    let document = read("docs/configuration.md");
    let every = every_key();
    let list = document.split_once("Some settings need a restart").unwrap().1.split_once("\n* ").unwrap().1;
    let (list, rest) = list.split_once("\n\n").unwrap();
    let waits = |effect: &Effect| matches!(effect, Effect::AfterRestart(_) | Effect::AtOnceInPolicies);
    let declared: BTreeSet<_> = every.iter().filter(|(_, effect)| waits(effect)).map(|(key, _)| key.clone()).collect();
    assert_eq!(listed_keys(list, &every), declared);
    for (key, _) in every.iter().filter(|(_, effect)| *effect == Effect::AtOnceInPolicies) {
        assert!(rest.starts_with(&format!("Policies follow `{key}` at once")), "docs/configuration.md lacks {key}");
    }
}

#[test]
fn every_route_of_the_worker_is_in_its_reference_with_its_scope() {
    let policy = read("policies/worker.toml");
    let document = read("docs/worker-api.md");
    let routes: Vec<_> = policy.split("[[route]]").skip(1).collect();
    assert!(routes.len() > 15, "{routes:?}");
    for route in routes {
        let first_of = |key: &str| {
            let line = route.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).unwrap();
            line.split('"').nth(1).unwrap().to_owned()
        };
        let row = format!("| `{} {}` | `{}` |", first_of("methods"), first_of("path"), first_of("scopes"));
        assert!(document.contains(&row), "docs/worker-api.md lacks {row}");
    }
}

#[test]
fn the_readme_shows_what_scripts_run_prints() {
    let readme = read("README.md");
    let script = read("scripts/run");
    let capture = readme.split_once("$ scripts/run\n").unwrap().1.split_once("```").unwrap().0;
    let commands: Vec<_> = capture.lines().filter(|line| line.starts_with("  scripts/call")).collect();
    assert!(!commands.is_empty(), "{capture}");
    for text in ["Sallyport is running at ", " with the key "] {
        assert!(script.contains(text) && capture.contains(text), "{text}");
    }
    for line in commands {
        assert!(script.contains(line), "scripts/run does not print {line}");
    }
}

#[test]
fn every_message_that_a_document_quotes_exists() {
    let document = read("docs/troubleshooting.md");
    let sources = sources();
    let system: BTreeSet<_> =
        (1..134).map(|number| os_error::words(&std::io::Error::from_raw_os_error(number))).collect();
    let exists = |part: &str| sources.contains(part) || system.contains(part.trim_start_matches(": "));
    let rows = section(&document, "It does not start").lines().filter_map(|line| line.strip_prefix("| `"));
    let mut messages: Vec<_> = rows.filter_map(|row| row.split_once("` |")).map(|(message, _)| message).collect();
    assert!(messages.len() > 1, "{messages:?}");
    for (name, message) in [
        ("docs/configuration.md", "the disk is full"),
        ("docs/proxies.md", "clients cannot be distinguished"),
        ("docs/worker.md", "the file is no longer on this server"),
    ] {
        assert!(read(name).contains(message), "{name} no longer quotes {message}");
        messages.push(message);
    }
    for message in messages {
        for part in message.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            assert!(exists(part), "no message contains {part:?}");
        }
    }
}

#[test]
fn every_code_in_the_tables_for_troubleshooting_exists() {
    let document = read("docs/troubleshooting.md");
    let sources = sources();
    // The column of the codes in each table.
    for (heading, column) in [("A request is denied", 1), ("The worker refuses a request", 2)] {
        let rows = section(&document, heading).lines().filter(|line| line.starts_with("| "));
        let codes: Vec<_> = rows.flat_map(|row| row.split('|').nth(column).into_iter().flat_map(quoted)).collect();
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            assert!(sources.contains(&format!("\"{code}\"")), "docs/troubleshooting.md: {code} is no code");
        }
    }
}

#[test]
fn every_example_of_a_log_filter_names_a_crate() {
    for name in ["config.toml", "docs/configuration.md", "docs/policies.md"] {
        let text = read(name);
        let parts: Vec<_> = text.split("=debug").collect();
        let (_, examples) = parts.split_last().unwrap();
        assert!(!examples.is_empty(), "{name} no longer has an example");
        for before in examples {
            let target = before.rsplit([',', '"']).next().unwrap();
            let package = target.strip_prefix("sallyport_").unwrap_or_else(|| panic!("{name}: {target} is no crate"));
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(package).is_dir(), "{name}: {target}");
        }
    }
}

#[test]
fn every_direct_dependency_is_explained() {
    let manifest = read("Cargo.toml");
    let document = read("docs/dependencies.md");
    let from = manifest.split_once("[workspace.dependencies]\n").unwrap().1;
    let list = from.split_once("\n[").unwrap().0;
    let names = list.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name));
    let names = names.filter(|name| !name.starts_with("sallyport-"));
    for name in names {
        assert!(document.contains(&format!("`{name}`")), "docs/dependencies.md lacks {name}");
    }
}

#[test]
fn every_link_between_documents_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().flatten().map(|e| e.path()).filter(|path| path.is_file());
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root.join(name));
    for file in docs.chain(top) {
        let text = fs::read_to_string(&file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(file.parent().unwrap().join(path).exists(), "{}: {target}", file.display());
        }
    }
}

#[test]
fn the_reference_shows_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("config.toml");
    let empty = dir.path().join("empty.toml");
    fs::write(&full, read("config.toml")).unwrap();
    fs::write(&empty, "").unwrap();
    let load = |path| {
        let mut config = sallyport_core::config::load(path).unwrap();
        config.apps.clear();
        config.file.clear();
        config.settings.clear();
        format!("{config:#?}")
    };
    assert_eq!(load(&full), load(&empty));
}
