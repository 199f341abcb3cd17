//! Body rules: the JSON object that a route accepts, validated field by field and re-serialised.

use std::collections::BTreeMap;

use sallyport_core::{addresses, config::HostPort};
use serde::Deserialize;
use thiserror::Error;
use url::Url;

use super::exact_json::Json;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// The longest word in a list, in bytes.
const MAX_WORD_BYTES: usize = 64;

/// The rule for a route's body.
#[derive(Debug)]
pub struct BodyRule {
    /// The fields that the object can have.
    pub fields: Vec<Field>,
    /// The treatment of other fields.
    pub unknown: UnknownFields,
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// The name.
    pub name: Box<str>,
    /// Whether the field is required.
    pub required: bool,
    /// The accepted values.
    pub kind: FieldKind,
}

/// The accepted values of a field.
#[derive(Debug)]
pub enum FieldKind {
    /// A string of limited length.
    Text {
        /// The maximum number of characters.
        max_chars: usize,
    },
    /// A list of words, each of 1 to 64 ASCII letters, digits, `-`, `_` and `.`.
    Words {
        /// The maximum number of words.
        max: usize,
    },
    /// One of these strings.
    OneOf(Box<[Box<str>]>),
    /// An http(s) URL of a public host, or of a host that is explicitly allowed.
    MediaUrl {
        /// The allowed hosts that are not public.
        allow_private: Vec<HostPort>,
    },
    /// An integer from `min` to `max`.
    Integer {
        /// The minimum.
        min: i64,
        /// The maximum.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
}

/// The treatment of fields that the rule does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// The body is refused.
    #[default]
    Refuse,
    /// They are passed on unchanged.
    Keep,
}

/// Why a body is refused. No message repeats what the client sent, except the names of known fields.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BodyFault {
    /// Not JSON, or an object has a duplicate name.
    #[error("invalid JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A required field is missing.
    #[error("the field {0:?} is missing")]
    Missing(Box<str>),
    /// The rule does not name a field.
    #[error("the body has an unknown field; this route accepts {0}")]
    Unknown(String),
    /// A value is invalid.
    #[error("the field {0:?} {1}")]
    Refused(Box<str>, String),
}

impl BodyFault {
    /// Returns true if the body could not be parsed (400, not 422).
    #[must_use]
    pub const fn is_unreadable(&self) -> bool {
        matches!(self, Self::NotJson(_) | Self::NotAnObject)
    }
}

impl BodyRule {
    /// Validates a complete body and returns it re-serialised for the upstream.
    pub fn judge(&self, body: &[u8]) -> Result<Vec<u8>, BodyFault> {
        let Json::Object(mut object) = Json::parse(body).map_err(|e| BodyFault::NotJson(e.to_string()))? else {
            return Err(BodyFault::NotAnObject);
        };
        for field in &self.fields {
            field.judge(&mut object)?;
        }
        if self.unknown == UnknownFields::Refuse && object.keys().any(|k| self.fields.iter().all(|f| *f.name != **k)) {
            return Err(BodyFault::Unknown(self.field_names()));
        }
        Ok(Json::Object(object).to_string().into_bytes())
    }

    fn field_names(&self) -> String {
        self.fields.iter().map(|f| &*f.name).collect::<Vec<_>>().join(", ")
    }
}

impl Field {
    fn judge(&self, object: &mut BTreeMap<String, Json>) -> Result<(), BodyFault> {
        let Some(value) = object.get_mut(&*self.name) else {
            return if self.required { Err(BodyFault::Missing(self.name.clone())) } else { Ok(()) };
        };
        let refused = |why: String| Err(BodyFault::Refused(self.name.clone(), why));
        match (&self.kind, &*value) {
            (FieldKind::Text { max_chars }, Json::Text(s)) if s.chars().count() <= *max_chars => Ok(()),
            (FieldKind::Text { max_chars }, _) => {
                refused(format!("must be a string of at most {max_chars} characters"))
            }
            (FieldKind::Words { max }, Json::List(words)) if words.len() <= *max && words.iter().all(is_word) => Ok(()),
            (FieldKind::Words { max }, _) => refused(format!(
                "must be a list of at most {max} words, each of at most {MAX_WORD_BYTES} letters, digits, '-', '_' and '.'"
            )),
            (FieldKind::OneOf(values), Json::Text(s)) if values.iter().any(|v| **v == **s) => Ok(()),
            (FieldKind::OneOf(values), _) => refused(format!("must be one of {}", values.join(", "))),
            (FieldKind::MediaUrl { allow_private }, Json::Text(s)) => match media_url(s, allow_private) {
                Ok(url) => {
                    *value = Json::Text(url.into());
                    Ok(())
                }
                Err(why) => refused(why.to_owned()),
            },
            (FieldKind::MediaUrl { .. }, _) => refused("must be a URL".to_owned()),
            (FieldKind::Integer { min, max }, v) if v.as_i64().is_some_and(|n| (*min..=*max).contains(&n)) => Ok(()),
            (FieldKind::Integer { min, max }, _) => refused(format!("must be an integer from {min} to {max}")),
            (FieldKind::Boolean, Json::Boolean(_)) => Ok(()),
            (FieldKind::Boolean, _) => refused("must be true or false".to_owned()),
        }
    }
}

fn is_word(value: &Json) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    value.as_str().is_some_and(|word| (1..=MAX_WORD_BYTES).contains(&word.len()) && word.bytes().all(plain))
}

/// Parses a URL that may be fetched for a client, as far as its text shows. The component that fetches it resolves the host and judges
/// the addresses again.
///
/// Ignores white space around the URL, which is easily copied along with it.
fn media_url(text: &str, allow_private: &[HostPort]) -> Result<Url, &'static str> {
    let text = text.trim();
    if text.len() > MAX_URL_BYTES {
        return Err("is too long for a URL");
    }
    if text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("must be an http or https URL");
    }
    let url = Url::parse(text).map_err(|_| "must be an http or https URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password");
    }
    let public = url.host().is_some_and(|host| addresses::is_public_host(&host));
    if public || allow_private.iter().any(|allowed| allowed.matches(&url)) {
        Ok(url)
    } else {
        Err("must have a public host; a private one must be listed in worker.allow_private")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> BodyRule {
        let allow_private = vec!["127.0.0.1:8999".parse().unwrap()];
        let one_of = FieldKind::OneOf(["video".into(), "audio".into()].into());
        BodyRule {
            fields: vec![
                Field { name: "url".into(), required: true, kind: FieldKind::MediaUrl { allow_private } },
                Field { name: "type".into(), required: false, kind: one_of },
                Field { name: "n".into(), required: false, kind: FieldKind::Integer { min: 1, max: 50 } },
                Field { name: "tags".into(), required: false, kind: FieldKind::Words { max: 2 } },
            ],
            unknown: UnknownFields::Refuse,
        }
    }

    fn judge(body: &str) -> Result<String, BodyFault> {
        rule().judge(body.as_bytes()).map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn a_valid_body_is_reserialised() {
        let body = judge(" {\"url\" :\"https:\\/\\/Example.com/a b\", \"type\":\"\\u0061udio\"} ");
        assert!(matches!(body, Err(BodyFault::Refused(..))), "a space in a URL");
        let body = judge(" {\"url\" :\"https:\\/\\/Example.com/a\", \"type\":\"\\u0061udio\", \"n\": 5} ").unwrap();
        assert_eq!(body, r#"{"n":5,"type":"audio","url":"https://example.com/a"}"#);
        let pasted = judge(r#"{"url":" \thttps://example.com/a\r\n"}"#).unwrap();
        assert_eq!(pasted, r#"{"url":"https://example.com/a"}"#, "white space around a URL is ignored");
        assert!(judge(r#"{"url":"http://127.0.0.1:8999/a"}"#).is_ok());
        for tags in [r"[]", r#"["en"]"#, r#"["pt-BR","a_1."]"#] {
            assert!(judge(&format!("{{\"url\":\"https://e.com/\",\"tags\":{tags}}}")).is_ok(), "{tags}");
        }
        let long = format!("[\"{}\"]", "a".repeat(65));
        for tags in [
            r#""en""#,
            "{}",
            "null",
            "[1]",
            r#"[["en"]]"#,
            r#"[""]"#,
            r#"["a b"]"#,
            r#"["a","b","c"]"#,
            r#"["é"]"#,
            &long,
        ] {
            let body = judge(&format!("{{\"url\":\"https://e.com/\",\"tags\":{tags}}}"));
            assert!(matches!(body, Err(BodyFault::Refused(..))), "{tags}");
        }
    }

    #[test]
    fn unknown_fields_keep_their_numbers_exactly() {
        let rule = BodyRule { unknown: UnknownFields::Keep, ..rule() };
        let body = r#"{"a":12345678901234567890123,"b":{"c":[1.10]},"n":5,"url":"https://e.com/"}"#;
        assert_eq!(rule.judge(body.as_bytes()).unwrap(), body.as_bytes());
    }

    #[test]
    fn anything_but_one_json_object_with_distinct_names_is_unreadable() {
        for body in [
            "",
            "x",
            "[]",
            "1",
            "{",
            "{}x",
            "{\"url\":1,\"url\":2}",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "\u{feff}{}",
            "{'url':1}",
        ] {
            assert!(judge(body).unwrap_err().is_unreadable(), "{body}");
        }
        let deep = "[".repeat(100_000);
        assert!(judge(&deep).unwrap_err().is_unreadable());
    }

    #[test]
    fn refusals_name_the_field_without_repeating_the_value() {
        for body in [
            "{}",
            r#"{"url":"-x"}"#,
            r#"{"url":"--exec=id"}"#,
            r#"{"url":"file:///etc/passwd"}"#,
            r#"{"url":"http://127.0.0.1/"}"#,
            r#"{"url":"http://127.0.0.1:9000/"}"#,
            r#"{"url":"http://169.254.169.254/latest"}"#,
            r#"{"url":"http://u:p@example.com/"}"#,
            r#"{"url":"ytsearch:x"}"#,
            r#"{"url":"https://exam\nple.com/"}"#,
            r#"{"url":" -x"}"#,
            r#"{"url":" \n"}"#,
            r#"{"url":"https:\\\\example.com\\a"}"#,
            r#"{"url":["https://example.com/"]}"#,
            r#"{"url":"https://example.com/","type":"film"}"#,
            r#"{"url":"https://example.com/","n":0}"#,
            r#"{"url":"https://example.com/","n":1.5}"#,
            r#"{"url":"https://example.com/","exec":"id"}"#,
        ] {
            assert!(!judge(body).unwrap_err().is_unreadable(), "{body}");
        }
        assert!(!judge(r#"{"url":"https://example.com/","s3cret":1}"#).unwrap_err().to_string().contains("s3cret"));
    }
}
