//! `[egress]`: the egress guard, the only way of downloads to the network.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    base::Base,
    effect::{RESTART_EGRESS, toml_table},
    fault::Faults,
};

toml_table! {
    /// `[egress]`
    struct EgressToml {
        listen: Option<SocketAddr> = None => RESTART_EGRESS;
        ports: Vec<u16> = vec![80, 443] => RESTART_EGRESS;
        key_file: PathBuf = "data/secrets/egress.key".into() => RESTART_EGRESS;
    }
}

/// The egress guard's settings.
#[derive(Clone, Debug)]
pub struct EgressConfig {
    /// The loopback address that it listens on as a separate process; `None` makes it part of the worker.
    pub listen: Option<SocketAddr>,
    /// The ports of public hosts that child processes may connect to.
    pub ports: Vec<u16>,
    /// The file of the key that it shares with the worker.
    pub key_file: PathBuf,
}

impl EgressConfig {
    pub(super) fn resolve(egress: EgressToml, base: Base<'_>, faults: &mut Faults<'_>) -> Self {
        if egress.listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            faults.add(
                "listen",
                "not a loopback address; use 127.0.0.1, or remove it to run the egress guard inside the worker",
            );
        }
        if egress.ports.is_empty() {
            faults.add("ports", "no ports; list the ones that downloads may come from, such as [80, 443]");
        }
        Self { listen: egress.listen, ports: egress.ports, key_file: base.path(egress.key_file) }
    }
}
