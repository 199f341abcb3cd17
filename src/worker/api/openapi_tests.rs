use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::worker::{
    api::{search, zip},
    tasks::{language::Languages, order::QUALITIES, source},
};

fn served() -> Value {
    serde_json::from_slice(&JSON).unwrap()
}

/// Every method with its path.
fn operations(document: &Value) -> BTreeSet<(String, &str)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| item.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.as_str()))).collect()
}

#[test]
fn exactly_the_routes_that_the_gateway_allows_are_described() {
    let (access, document) = (Access::of_the_worker(), served());
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
fn described_limits_are_those_of_the_code() {
    let document = served();
    let schemas = &document["components"]["schemas"];
    for body in ["Order", "Question"] {
        assert_eq!(schemas[body]["properties"]["url"]["maxLength"], source::MAX_LENGTH);
        assert_eq!(schemas[body]["additionalProperties"], false);
        assert_eq!(schemas[body]["required"], json!(["url"]));
    }
    assert_eq!(schemas["Order"]["properties"]["quality"]["enum"], json!(QUALITIES));
    assert_eq!(schemas["Order"]["properties"]["subtitles"]["maxItems"], Languages::MAX);
    let found = |path: &str, name: &str| {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
        parameters.iter().find(|parameter| parameter["name"] == name).unwrap().clone()
    };
    let (q, count, ids) = (found("/api/search", "q"), found("/api/search", "max_results"), found("/api/v2/zip", "ids"));
    assert_eq!((&q["schema"]["maxLength"], &q["required"]), (&json!(search::MAX_TEXT), &json!(true)));
    assert_eq!((&count["schema"]["maximum"], &count["required"]), (&json!(search::MAX_RESULTS), &json!(false)));
    assert_eq!((&ids["schema"]["maxItems"], &ids["required"]), (&json!(zip::MAX_FILES), &json!(true)));
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
    let text = format!("{}\n", std::str::from_utf8(&JSON).unwrap());
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(&copy, &text).unwrap();
    }
    let same = fs::read_to_string(copy).is_ok_and(|copy| copy == text);
    assert!(same, "docs/openapi.json is stale; regenerate it: UPDATE_OPENAPI=1 cargo nextest run -E 'test(openapi)'");
}
