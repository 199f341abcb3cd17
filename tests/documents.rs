//! The documents match the program: what they list is what it has.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use sallyport_gateway::policy::Reason;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
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
    let (reference, document) = (read("config.toml"), read("docs/configuration.md"));
    let known = keys(&reference);
    assert!(known.len() > 40, "{known:?}");
    for key in &known {
        let name = key.rsplit('.').next().unwrap();
        assert!(document.contains(&format!("`{name}`")), "docs/configuration.md lacks {key}");
    }
    // The wire structs define what is parsed; a field that no document names would be a key that users cannot know of.
    let wire = ["crates/core/src/config/wire.rs", "crates/core/src/config/acme/wire.rs"].map(read).concat();
    let fields = wire.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(": "));
    for (field, _) in fields.filter(|(field, _)| field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
        let tables = [
            "gateway",
            "tls",
            "jwt",
            "links",
            "bans",
            "log",
            "worker",
            "app",
            "egress",
            "insecure",
            "key",
            "certificate",
            "acme",
            "authority",
            "dns",
            "clients",
        ];
        let named = known.iter().any(|key| key.rsplit('.').next() == Some(field)) || tables.contains(&field);
        assert!(named, "config.toml does not name {field}");
    }
}

#[test]
fn every_route_of_the_worker_is_in_its_reference_with_its_scope() {
    let (policy, document) = (read("policies/worker.toml"), read("docs/worker-api.md"));
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
    let (readme, script) = (read("README.md"), read("scripts/run"));
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
fn every_direct_dependency_is_explained() {
    let (manifest, document) = (read("Cargo.toml"), read("docs/dependencies.md"));
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
    let (full, empty) = (dir.path().join("config.toml"), dir.path().join("empty.toml"));
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
