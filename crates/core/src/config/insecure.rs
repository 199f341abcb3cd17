//! `[insecure]`: the settings that relax a check.

use super::effect::{RESTART_GATEWAY, RESTART_WORKER, toml_table};

toml_table! {
    /// `[insecure]`: the settings that relax a check; all are off by default.
    struct InsecureToml {
        worker_on_any_address: bool = false => RESTART_WORKER;
        admin_on_any_address: bool = false => RESTART_GATEWAY;
        partial_sandbox: bool = false => RESTART_WORKER;
    }
}
