//! JSON that has only one interpretation, and whose numbers keep their spelling.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as it was written. A double would change 12345678901234567890123 or 1.10.
    Number(Box<str>),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Parses JSON without duplicate names in any object (RFC 8259, section 4, leaves the meaning of such an object open).
    ///
    /// # Errors
    /// Fails if the input is not JSON, has a duplicate name, or has a number beyond the range of a double.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = Exact(&Numbers(Cell::new(bytes))).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    /// Returns the integer, if the number is spelled the way every parser reads it as that integer.
    #[must_use]
    pub(crate) fn as_i64(&self) -> Option<i64> {
        let Self::Number(text) = self else { return None };
        text.parse().ok().filter(|number: &i64| number.to_string() == **text)
    }

    /// Returns the string.
    #[must_use]
    pub(crate) fn as_str(&self) -> Option<&str> {
        let Self::Text(text) = self else { return None };
        Some(text)
    }
}

/// Serialises without white space, and with the names of an object in their order.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => quoted(f, text),
            Self::List(values) => {
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "[" } else { "," })?;
                }
                f.write_str(if values.is_empty() { "[]" } else { "]" })
            }
            Self::Object(object) => {
                for (i, (name, value)) in object.iter().enumerate() {
                    f.write_str(if i == 0 { "{" } else { "," })?;
                    quoted(f, name)?;
                    write!(f, ":{value}")?;
                }
                f.write_str(if object.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

/// The input, from where the next number is searched: the parser meets numbers in the order in which they appear.
struct Numbers<'t>(Cell<&'t [u8]>);

impl Numbers<'_> {
    fn next(&self) -> Option<Box<str>> {
        loop {
            match self.0.get() {
                [] => return None,
                [b'"', rest @ ..] => self.0.set(after_text(rest)),
                text @ [b'-' | b'0'..=b'9', ..] => {
                    let end = text.iter().position(|b| !b"+-.0123456789Ee".contains(b)).unwrap_or(text.len());
                    let (number, rest) = text.split_at_checked(end)?;
                    self.0.set(rest);
                    return std::str::from_utf8(number).ok().map(Into::into);
                }
                [_, rest @ ..] => self.0.set(rest),
            }
        }
    }
}

/// Returns what follows the end of a string that has begun.
fn after_text(mut text: &[u8]) -> &[u8] {
    loop {
        text = match text {
            [] => return text,
            [b'"', rest @ ..] => return rest,
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
        }
    }
}

#[derive(Clone, Copy)]
struct Exact<'n>(&'n Numbers<'n>);

impl Exact<'_> {
    fn number<E: serde::de::Error>(self) -> Result<Json, E> {
        self.0.next().map(Json::Number).ok_or_else(|| E::custom("cannot find the text of a number"))
    }
}

impl<'de> DeserializeSeed<'de> for Exact<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Exact<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
        Ok(Json::Boolean(v))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Json, E> {
        self.number()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Json, E> {
        self.number()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Json, E> {
        self.number()
    }

    fn visit_str<E>(self, v: &str) -> Result<Json, E> {
        Ok(Json::Text(v.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate name in an object"));
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        Json::parse(text.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn every_number_keeps_its_spelling() {
        for text in [
            "12345678901234567890123",
            "-9007199254740993",
            "[1.10,1E5,1e-7,-0,-0.0,0.1,3.0]",
            r#"{"-1":"2 \" 3","4\\":[5,{"6":7.70}],"8":9}"#,
        ] {
            assert_eq!(rewritten(text), text);
        }
        assert_eq!(rewritten(r#"{"b":1.10,"a":2.20,"\u0030":[3.30]}"#), r#"{"0":[3.30],"a":2.20,"b":1.10}"#);
    }

    #[test]
    fn everything_else_is_re_serialised() {
        assert_eq!(
            rewritten(" { \"b\" : \"\\u0041\\/\\n\" , \"a\":[ ] , \"c\":{ }, \"d\":[true , null] } "),
            r#"{"a":[],"b":"A/\n","c":{},"d":[true,null]}"#
        );
    }

    #[test]
    fn duplicate_names_and_numbers_beyond_a_double_are_refused() {
        for text in
            [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"a":{"b":1,"b":1}}]"#, "{} {}", "", "01", "1e999"]
        {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn an_integer_has_one_spelling() {
        let number = |text: &str| Json::parse(text.as_bytes()).unwrap().as_i64();
        assert_eq!((number("7"), number("-7")), (Some(7), Some(-7)));
        for text in ["7.0", "7e0", "-0", "9223372036854775808", "\"7\"", "true"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
