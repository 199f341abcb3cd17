//! Compiles `allow_from` and `deny_from`.

use sallyport_core::config::Key;

use super::compiler::Compiler;
use crate::policy::{
    addresses::{AddressRules, AddressSet},
    wire,
};

impl Compiler<'_> {
    /// Each of the two lists of a route replaces the default.
    pub(super) fn addresses(&mut self, index: usize, route: &wire::Route, defaults: &AddressRules) -> AddressRules {
        let mut own = |key, texts: &Option<Vec<String>>| {
            texts.as_ref().map(|texts| self.address_sets(Key::element("route", index), key, texts))
        };
        AddressRules {
            allow: own("allow_from", &route.allow_from).unwrap_or_else(|| defaults.allow.clone()),
            deny: own("deny_from", &route.deny_from).unwrap_or_else(|| defaults.deny.clone()),
        }
    }

    pub(super) fn address_sets(&mut self, table: Key, key: &'static str, texts: &[String]) -> Box<[AddressSet]> {
        let mut sets = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match self.address_set(text) {
                Ok(set) => sets.push(set),
                Err(what) => self.faults.add(vec![table, Key::element(key, i)], what),
            }
        }
        sets.into()
    }

    fn address_set(&self, text: &str) -> Result<AddressSet, String> {
        match text.parse() {
            Ok(AddressSet::Country(_)) if !self.has_countries => {
                Err(format!("{text:?} requires a country database; set its file in config.toml, [gateway] geoip"))
            }
            Ok(set) => Ok(set),
            Err(invalid) => Err(invalid.to_string()),
        }
    }
}
