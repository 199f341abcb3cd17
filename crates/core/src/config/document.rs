//! Reads a TOML file and reports all its faults: an invalid value is recorded and left out, and reading continues with the rest.

use std::{ops::Range, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::{
    diagnostic::{Diagnostic, Diagnostics},
    words,
};

/// A file with more faults than this is probably not a configuration file.
const MAX_FAULTS: usize = 50;

/// The parsed value, and every fault.
pub struct Document<T> {
    /// The value, without the invalid parts; `None` if the rest cannot be used.
    pub value: Option<T>,
    /// What is wrong with the file.
    pub faults: Diagnostics,
    /// Whether an element of a list was left out; references to it, and the indexes of the elements after it, would be wrong.
    pub lost_elements: bool,
}

/// One step of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Element(usize),
}

impl<T: DeserializeOwned> Document<T> {
    /// Parses `source`, the text of the file at `path`.
    pub fn read(path: &Path, source: &str) -> Self {
        let (tree, errors) = DeTable::parse_recoverable(source);
        if !errors.is_empty() {
            let fault = |e: &toml::de::Error| {
                Diagnostic::at(path, source, e.span().as_ref(), format!("invalid TOML: {}", e.message().trim()))
            };
            let faults = Diagnostics(errors.iter().take(MAX_FAULTS).map(fault).collect());
            return Self { value: None, faults, lost_elements: true };
        }
        let rest = tree.clone();
        let mut reading =
            DocumentReader { path, source, tree, rest, removed: Vec::new(), faults: Vec::new(), lost_elements: false };
        let value = reading.value();
        Self { value, faults: Diagnostics(reading.faults), lost_elements: reading.lost_elements }
    }
}

struct DocumentReader<'s> {
    path: &'s Path,
    source: &'s str,
    tree: Spanned<DeTable<'s>>,
    /// The tree without the values that were found invalid so far.
    rest: Spanned<DeTable<'s>>,
    removed: Vec<Vec<Step>>,
    faults: Vec<Diagnostic>,
    lost_elements: bool,
}

impl DocumentReader<'_> {
    fn value<T: DeserializeOwned>(&mut self) -> Option<T> {
        while self.faults.len() < MAX_FAULTS {
            let error = match T::deserialize(Deserializer::from(self.rest.clone())) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let span = error.span();
            let way = span.as_ref().and_then(|span| way_to(self.tree.get_ref(), span));
            let follows = self.follows_from_another(way.as_deref().unwrap_or_default(), error.message());
            if !follows {
                let what = words::of_toml(error.message());
                let fault = Diagnostic::at(self.path, self.source, span.as_ref(), what);
                self.faults.push(fault.of_key(&written(way.as_deref().unwrap_or_default())));
            }
            self.removed.push(way?);
            let way = span.and_then(|span| way_to(self.rest.get_ref(), &span))?;
            self.lost_elements |= matches!(way.last(), Some(Step::Element(_)));
            remove(self.rest.get_mut(), &way);
        }
        None
    }

    /// Returns true if a key is missing only because its invalid value was left out.
    fn follows_from_another(&self, table: &[Step], message: &str) -> bool {
        let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) else {
            return false;
        };
        let key = [table, &[Step::Key(name.to_owned())]].concat();
        self.removed.contains(&key)
    }
}

/// Returns the path to the key or value at `span`.
fn way_to(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    table.iter().find_map(|(key, value)| {
        let step = Step::Key(key.get_ref().to_string());
        if key.span() == *span {
            return Some(vec![step]);
        }
        Some([vec![step], way_within(value, span)?].concat())
    })
}

fn way_within(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<Step>> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => way_to(table, span),
        DeValue::Array(elements) => elements
            .iter()
            .enumerate()
            .find_map(|(i, element)| Some([vec![Step::Element(i)], way_within(element, span)?].concat())),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(Vec::new))
}

/// Removes the key or element at the end of the path.
fn remove(table: &mut DeTable<'_>, way: &[Step]) {
    match way {
        [Step::Key(name)] => drop(table.remove(&**name)),
        [Step::Key(name), rest @ ..] => {
            if let Some(value) = table.get_mut(&**name) {
                remove_within(value.get_mut(), rest);
            }
        }
        _ => {}
    }
}

fn remove_within(value: &mut DeValue<'_>, way: &[Step]) {
    match (value, way) {
        (DeValue::Table(table), way) => remove(table, way),
        (DeValue::Array(elements), [Step::Element(i)]) => {
            let old = std::mem::replace(elements, DeArray::new());
            old.into_iter().enumerate().filter(|(at, _)| at != i).for_each(|(_, element)| elements.push(element));
        }
        (DeValue::Array(elements), [Step::Element(i), rest @ ..]) => {
            if let Some(element) = elements.get_mut(*i) {
                remove_within(element.get_mut(), rest);
            }
        }
        _ => {}
    }
}

/// Formats a path such as `app[0].upstream`.
fn written(way: &[Step]) -> String {
    let mut text = String::new();
    for step in way {
        match step {
            Step::Key(name) if text.is_empty() => text.push_str(name),
            Step::Key(name) => text.extend([".", name]),
            Step::Element(i) => text.extend(["[", &i.to_string(), "]"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the tests look only at faults")]
    struct Top {
        #[serde(default)]
        count: u16,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        item: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "as above")]
    struct Item {
        name: String,
        #[serde(default)]
        on: bool,
    }

    fn faults(source: &str) -> Vec<String> {
        let document = Document::<Top>::read(Path::new("f"), source);
        document.faults.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let source = "count = \"x\"\nnames = [\"a\", 5]\nnmaes = 1\n[[item]]\nname = 1\n[[item]]\non = 2\nname = \"b\"\n[[item]]\n";
        let found = faults(source);
        let expected = [
            "f:1:9: count: must be an integer from 0 to 65535, not the string \"x\"",
            "f:2:15: names[1]: must be a string in quotes, not 5",
            "f:3:1: nmaes: unknown key; did you mean \"names\"?",
            "f:5:8: item[0].name: must be a string in quotes, not 1",
        ];
        for fault in expected {
            assert!(found.iter().any(|f| f == fault), "{fault}: {found:#?}");
        }
        assert!(found.iter().any(|f| f.contains(".on: must be true or false, not 2")), "{found:#?}");
        assert!(found.iter().any(|f| f.contains("the key \"name\" is missing; add it")), "{found:#?}");
        assert_eq!(found.len(), 6, "no fault is repeated or follows from another: {found:#?}");
    }

    #[test]
    fn valid_values_are_read_despite_faults_elsewhere() {
        let document = Document::<Top>::read(Path::new("f"), "count = \"x\"\nnames = [\"a\"]\n");
        assert_eq!(document.value.unwrap().names, ["a"]);
        assert!(!document.lost_elements);
        assert!(Document::<Top>::read(Path::new("f"), "[[item]]\n").lost_elements);
        assert!(Document::<Top>::read(Path::new("f"), "count = \n").value.is_none());
    }
}
