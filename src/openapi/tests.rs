//! Compares the document with the policy, and with its copy in the documentation.

use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::Value;

use super::*;

fn served() -> Value {
    serde_json::from_slice(&json()).unwrap()
}

/// Every method with its path.
fn operations(document: &Value) -> BTreeSet<(String, &str)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| item.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.as_str()))).collect()
}

#[test]
fn exactly_the_routes_that_the_gateway_allows_are_described() {
    let access = Access::of_the_worker();
    let document = served();
    let reachable = access.all().into_iter().map(|(method, path)| (method.to_owned(), path)).collect();
    assert_eq!(operations(&document), reachable, "left: described by a route; right: in policies/worker.toml");
}

#[test]
fn every_operation_names_its_credentials_and_scopes() {
    let document = served();
    for (method, path) in operations(&document) {
        let operation = &document["paths"][path][method.to_lowercase()];
        let security = operation["security"].as_array().unwrap();
        let key = security.iter().find_map(|kind| kind.get("api-key")).unwrap();
        assert!(!key.as_array().unwrap().is_empty(), "{method} {path}: {security:?}");
        assert!(operation["summary"].is_string() && operation["responses"]["401"].is_object(), "{method} {path}");
    }
    let file = &document["paths"]["/api/download/{id}/file"]["get"]["security"];
    assert!(file.as_array().unwrap().iter().any(|kind| kind.get("offlinetube-link").is_some()), "{file}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
                }
                members.values().for_each(|member| check(member, document));
            }
            Value::Array(members) => members.iter().for_each(|member| check(member, document)),
            _ => {}
        }
    }
    let document = served();
    check(&document, &document);
}

/// The copy lets people read the API, and see its changes, without running the program.
#[test]
fn the_copy_in_docs_is_what_is_served() {
    let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = format!("{}\n", String::from_utf8(json()).unwrap());
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(&copy, &text).unwrap();
    }
    let same = fs::read_to_string(copy).is_ok_and(|copy| copy == text);
    assert!(same, "docs/openapi.json is stale; regenerate it: UPDATE_OPENAPI=1 cargo nextest run -E 'test(openapi)'");
}
