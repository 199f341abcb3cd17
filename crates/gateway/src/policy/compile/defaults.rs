//! Compiles `[defaults]`, which routes inherit.

use sallyport_core::config::Key;

use super::compiler::Compiler;
use crate::{
    identity::{AddedParameter, CredentialKind},
    policy::{addresses::AddressRules, wire},
};

/// The values for routes that do not set a key themselves.
pub(super) struct Defaults {
    pub(super) addresses: AddressRules,
    pub(super) credentials: Vec<CredentialKind>,
    pub(super) rates: Vec<wire::Limit>,
    pub(super) max_body: u64,
    pub(super) cors: bool,
    pub(super) link_ignores: Box<[AddedParameter]>,
}

impl Compiler<'_> {
    pub(super) fn defaults(&mut self, defaults: wire::Defaults) -> Defaults {
        let wire::Defaults { allow_from, deny_from, credentials, rates, max_body, cors, link_ignores } = defaults;
        let table = Key::table("defaults");
        Defaults {
            addresses: AddressRules {
                allow: self.address_sets(table, "allow_from", &allow_from),
                deny: self.address_sets(table, "deny_from", &deny_from),
            },
            credentials,
            rates,
            max_body: max_body.0,
            cors,
            link_ignores: self.link_ignores(table, &link_ignores),
        }
    }
}
