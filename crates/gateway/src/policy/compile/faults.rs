//! The faults of one policy, each at the key that it concerns.

use sallyport_core::config::{Fault, Key};

/// The faults that were found so far.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, key: Vec<Key>, what: impl Into<String>) {
        self.0.push(Fault::new(key, what));
    }

    /// Adds a fault of a key of the route at `index`.
    pub(super) fn in_route(&mut self, index: usize, key: &'static str, what: impl Into<String>) {
        self.add(vec![Key::element("route", index), Key::table(key)], what);
    }

    /// Adds a fault of a key of a table.
    pub(super) fn in_table(&mut self, table: &'static str, key: &'static str, what: impl Into<String>) {
        self.add(vec![Key::table(table), Key::table(key)], what);
    }
}
