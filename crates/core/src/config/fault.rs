//! Faults: values that parse but make no sense, each at its key. Resolving collects all of them.

use std::{fmt::Display, str::FromStr};

/// A value that parses but makes no sense.
pub struct Fault {
    /// The path to the key, from the top.
    pub key: Vec<Key>,
    /// What is wrong, and how to fix it.
    pub what: String,
}

/// One step of the path to a key.
#[derive(Clone, Copy)]
pub struct Key {
    /// The name of a key, or of a table.
    pub name: &'static str,
    /// Which element of a list of tables.
    pub index: Option<usize>,
}

impl Key {
    /// The step to a key, or to a table.
    #[must_use]
    pub const fn table(name: &'static str) -> Self {
        Self { name, index: None }
    }

    /// The step to one table of a list, counted from 0.
    #[must_use]
    pub const fn element(name: &'static str, index: usize) -> Self {
        Self { name, index: Some(index) }
    }
}

impl From<&'static str> for Key {
    fn from(name: &'static str) -> Self {
        Self::table(name)
    }
}

impl Fault {
    /// Creates a fault of the value at `key`.
    pub fn new(key: Vec<Key>, what: impl Into<String>) -> Self {
        Self { key, what: what.into() }
    }
}

/// The faults found so far, as seen from one table.
pub(super) struct Faults<'f> {
    found: &'f mut Vec<Fault>,
    table: Vec<Key>,
}

impl<'f> Faults<'f> {
    /// Creates the view from the top level.
    pub(super) fn new(found: &'f mut Vec<Fault>) -> Self {
        Self { found, table: Vec::new() }
    }

    /// Returns the view from a table of this one.
    pub(super) fn within(&mut self, table: impl Into<Key>) -> Faults<'_> {
        let table = [&*self.table, &[table.into()]].concat();
        Faults { found: self.found, table }
    }

    /// Adds a fault of a key.
    pub(super) fn add(&mut self, key: impl Into<Key>, what: impl Into<String>) {
        self.found.push(Fault::new([&*self.table, &[key.into()]].concat(), what));
    }

    /// Adds a fault of the table itself.
    pub(super) fn add_here(&mut self, what: impl Into<String>) {
        self.found.push(Fault::new(self.table.clone(), what));
    }

    /// Parses the text at a key. A text that does not parse becomes a fault.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: impl Into<Key>, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.add(key, error.to_string())).ok()
    }

    /// Parses each text of a list. Those that do not parse become faults.
    pub(super) fn all_parsed<T: FromStr<Err: Display>>(&mut self, name: &'static str, texts: &[String]) -> Vec<T> {
        texts.iter().enumerate().filter_map(|(i, text)| self.parsed(Key::element(name, i), text)).collect()
    }

    /// Returns the number of faults so far.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }
}
