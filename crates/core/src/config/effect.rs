//! When a change of a setting takes effect. Each key declares it where the key itself is declared.

use std::fmt;

/// When a change of a setting takes effect, from the soonest to the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// At the reload.
    AtOnce,
    /// At the reload in policies, and after a restart in the worker and the egress guard.
    AtOnceInPolicies,
    /// After a restart.
    AfterRestart(Waiter),
}

/// The processes that a change waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiter {
    /// The gateway.
    Gateway,
    /// The worker.
    Worker,
    /// The worker and the egress guard.
    WorkerAndEgress,
    /// All of them.
    EveryProcess,
}

/// The names of a table, in the order of the file.
pub(super) type Keys = &'static [(&'static str, Named)];

/// What a name in a table stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// A key.
    Key(Effect),
    /// A table, or a list of tables.
    Table(Keys),
}

pub(super) const AT_ONCE: Named = Named::Key(Effect::AtOnce);
pub(super) const AT_ONCE_IN_POLICIES: Named = Named::Key(Effect::AtOnceInPolicies);
pub(super) const RESTART_GATEWAY: Named = Named::Key(Effect::AfterRestart(Waiter::Gateway));
pub(super) const RESTART_WORKER: Named = Named::Key(Effect::AfterRestart(Waiter::Worker));
pub(super) const RESTART_EGRESS: Named = Named::Key(Effect::AfterRestart(Waiter::WorkerAndEgress));
pub(super) const RESTART_ALL: Named = Named::Key(Effect::AfterRestart(Waiter::EveryProcess));

/// Declares a table of the file: each key with its type, its default, and when a change of it takes effect.
///
/// A table with required keys has no defaults here; its optional keys name their default in a `#[serde(default)]`.
macro_rules! toml_table {
    ($(#[$meta:meta])* struct $name:ident { $($key:ident: $type:ty = $default:expr => $named:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub(in crate::config) struct $name {
            $(pub(in crate::config) $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $name {
            pub(in crate::config) const KEYS: $crate::config::effect::Keys = &[$((stringify!($key), $named),)*];
        }
    };
    ($(#[$meta:meta])* struct $name:ident { $($(#[$attribute:meta])* $key:ident: $type:ty => $named:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            $($(#[$attribute])* pub(in crate::config) $key: $type,)*
        }

        impl $name {
            pub(in crate::config) const KEYS: $crate::config::effect::Keys = &[$((stringify!($key), $named),)*];
        }
    };
}
pub(super) use toml_table;

impl Named {
    pub(super) fn get(self, name: &str) -> Option<Self> {
        match self {
            Self::Table(keys) => keys.iter().find(|(key, _)| *key == name).map(|(_, named)| *named),
            Self::Key(_) => None,
        }
    }

    /// Returns when a change of everything in it has taken effect. A list of tables is a setting of its own while it is empty.
    pub(super) fn latest(self) -> Option<Effect> {
        match self {
            Self::Key(effect) => Some(effect),
            Self::Table(keys) => keys.iter().filter_map(|(_, named)| named.latest()).max(),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => f.write_str("a setting has changed"),
            Self::AtOnceInPolicies => f.write_str(
                "a setting has changed; it applies now in the gateway's policies, and after a restart in the worker and the egress guard",
            ),
            Self::AfterRestart(waiter) => write!(f, "this change waits for a restart of {waiter}"),
        }
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "the gateway",
            Self::Worker => "the worker",
            Self::WorkerAndEgress => "the worker and the egress guard",
            Self::EveryProcess => "all processes",
        })
    }
}
