//! Checks that the limits and statuses in the API description are those of the code.

use serde_json::json;

use super::document;
use crate::{
    api::{search, zip},
    tasks::{language::Languages, order::QUALITIES, source},
};

#[test]
fn described_limits_are_those_of_the_code() {
    let document = serde_json::to_value(document()).unwrap();
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
    let q = found("/api/search", "q");
    let count = found("/api/search", "max_results");
    let ids = found("/api/v2/zip", "ids");
    assert_eq!((&q["schema"]["maxLength"], &q["required"]), (&json!(search::MAX_TEXT), &json!(true)));
    assert_eq!((&count["schema"]["maximum"], &count["required"]), (&json!(search::MAX_RESULTS), &json!(false)));
    assert_eq!((&ids["schema"]["maxItems"], &ids["required"]), (&json!(zip::MAX_FILES), &json!(true)));
}
