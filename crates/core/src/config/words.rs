//! Rewrites serde's errors for people: without Rust's type names, and with what to write instead.

use figment::error::Kind;

use crate::names::spelling::did_you_mean;

/// Longer lists are left to the documentation.
const MAX_LISTED: usize = 12;

/// Rewrites the message of a TOML deserializer. Messages of our own types stay unchanged.
pub(super) fn of_toml(message: &str) -> String {
    let message = message.trim();
    if let Some((name, rest)) = quoted_after(message, "unknown field ") {
        return unknown_key(name, &names(rest));
    }
    if let Some((name, rest)) = quoted_after(message, "unknown variant ") {
        return unknown_word(name, &names(rest));
    }
    if let Some((name, _)) = quoted_after(message, "missing field ") {
        return missing(name);
    }
    for start in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, wanted)) = message.strip_prefix(start).and_then(|rest| rest.split_once(", expected ")) {
            return misfit(found, wanted);
        }
    }
    of_type(message)
}

/// Rewrites an error about a value from the environment.
pub(super) fn of_environment(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => of_toml(message),
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => misfit(&found.to_string(), wanted),
        Kind::InvalidLength(found, wanted) => misfit(&format!("{found} elements"), wanted),
        Kind::UnknownVariant(name, known) => unknown_word(name, known),
        Kind::UnknownField(name, known) => unknown_key(name, known),
        Kind::MissingField(name) => missing(name),
        Kind::DuplicateField(name) => format!("{name:?} is set twice; remove one"),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => {
            "the number is too large; write a smaller one".to_owned()
        }
        Kind::Unsupported(found) | Kind::UnsupportedKey(found, _) => {
            format!("{} is not allowed here; remove it", found_words(&found.to_string()))
        }
    }
}

fn unknown_key(name: &str, known: &[&str]) -> String {
    let hint = did_you_mean(name, known.iter().copied());
    match (hint.is_empty(), known.len()) {
        (false, _) => format!("unknown key{hint}"),
        (true, 0) => "unknown key; remove it".to_owned(),
        (true, 1..=MAX_LISTED) => format!("unknown key; the keys of this table are {}", known.join(", ")),
        (true, _) => "unknown key; remove it, or see docs/configuration.md for the keys of this table".to_owned(),
    }
}

fn unknown_word(word: &str, known: &[&str]) -> String {
    let known: Vec<_> = known.iter().map(|known| format!("{known:?}")).collect();
    let list = match known.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => return format!("{word:?} is not allowed here; remove it"),
    };
    format!("{word:?} is not a valid value; write {list}")
}

fn missing(name: &str) -> String {
    format!("the key {name:?} is missing; add it")
}

fn misfit(found: &str, wanted: &str) -> String {
    format!("must be {}, not {}", wanted_words(wanted), found_words(found))
}

/// Translates the names that types of the standard library and of crates use for themselves.
fn wanted_words(wanted: &str) -> String {
    match wanted {
        "a boolean" => "true or false",
        "a string" | "string" | "a borrowed string" => "a string in quotes",
        "path string" | "a path string" => "a path in quotes",
        "a sequence" => "a list in [ ]",
        "a map" | "table" => "a table",
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" | "u64" | "usize" => "an integer of at least 0",
        "i64" => "an integer",
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "an integer of at least 1",
        "IPv4 or IPv6 network address" | "IP network" => "a network such as \"192.0.2.0/24\"",
        "socket address" => "an address and a port such as \"127.0.0.1:8002\"",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("a sequence") || other.starts_with("an array") => "a list in [ ]",
        other => return other.trim_start_matches("expected ").to_owned(),
    }
    .to_owned()
}

fn found_words(found: &str) -> String {
    let found = found.trim_start_matches("found ");
    for (name, words) in [
        ("string ", "the string "),
        ("integer ", ""),
        ("floating point ", ""),
        ("float ", ""),
        ("boolean ", ""),
        ("bool ", ""),
    ] {
        if let Some(value) = found.strip_prefix(name) {
            return format!("{words}{}", value.trim_matches('`'));
        }
    }
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// Expands messages from parsers of the standard library and of crates that are too short to help.
fn of_type(message: &str) -> String {
    match message {
        "invalid IP address syntax" => "not a network; write, for example, \"192.0.2.0/24\" or \"2001:db8::/32\"",
        "invalid socket address syntax" => "not an address and a port; write, for example, \"127.0.0.1:8002\"",
        other => other,
    }
    .to_owned()
}

/// Returns the word in backticks after `start`, and the rest.
fn quoted_after<'m>(message: &'m str, start: &str) -> Option<(&'m str, &'m str)> {
    message.strip_prefix(start)?.strip_prefix('`')?.split_once('`')
}

/// Returns all words in backticks.
fn names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_errors_become_plain_english() {
        for (said, plain) in [
            ("unknown field `lisen`, expected one of `listen`, `http_listen`", "unknown key; did you mean \"listen\"?"),
            ("unknown field `x`, expected `cert` or `key`", "unknown key; the keys of this table are cert, key"),
            (
                "unknown variant `xml`, expected `json` or `combined`",
                "\"xml\" is not a valid value; write \"json\" or \"combined\"",
            ),
            ("missing field `name`", "the key \"name\" is missing; add it"),
            (
                "invalid type: string \"many\", expected usize",
                "must be an integer of at least 0, not the string \"many\"",
            ),
            ("invalid type: integer `5`, expected a string", "must be a string in quotes, not 5"),
            ("invalid value: integer `0`, expected a nonzero u32", "must be an integer of at least 1, not 0"),
            ("invalid type: map, expected a sequence", "must be a list in [ ], not a table"),
            ("\"soon\" is not a duration", "\"soon\" is not a duration"),
        ] {
            assert_eq!(of_toml(said), plain);
        }
    }
}
