//! `[links]`: the lifetimes and number of links.

use std::time;

use super::{
    effect::{AT_ONCE, toml_table},
    fault::Faults,
    units::Duration,
};

toml_table! {
    /// `[links]`
    struct LinksToml {
        default_expiry: Duration = Duration::seconds(3_600) => AT_ONCE;
        max_expiry: Duration = Duration::seconds(7 * 86_400) => AT_ONCE;
        max_per_user: u32 = 1_000 => AT_ONCE;
        max_in_all: u32 = 20_000 => AT_ONCE;
    }
}

/// The lifetimes and number of links.
#[derive(Clone, Copy, Debug)]
pub struct LinksConfig {
    /// The lifetime of a link if none is requested.
    pub default_expiry: time::Duration,
    /// The longest lifetime of a link.
    pub max_expiry: time::Duration,
    /// The number of links per user.
    pub max_per_user: u32,
    /// The total number of links.
    pub max_in_all: u32,
}

impl LinksConfig {
    pub(super) fn resolve(links: &LinksToml, faults: &mut Faults<'_>) -> Self {
        if links.default_expiry > links.max_expiry {
            faults.add("default_expiry", "longer than max_expiry; lower it");
        }
        for (name, most) in [("max_per_user", links.max_per_user), ("max_in_all", links.max_in_all)] {
            if most == 0 {
                faults.add(name, "must be at least 1");
            }
        }
        Self {
            default_expiry: links.default_expiry.0,
            max_expiry: links.max_expiry.0,
            max_per_user: links.max_per_user,
            max_in_all: links.max_in_all,
        }
    }
}
