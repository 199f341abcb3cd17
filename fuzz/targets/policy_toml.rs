//! No policy text makes a start panic, and the place of each error exists in the text.

use std::path::Path;

use sallyport_gateway::policy::{PolicyText, compile_text};

use super::{config_toml, site};

pub fn run(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let app = &site::config().apps[0];
    let policy = PolicyText { path: Path::new("/etc/policy.toml"), text: source };
    if let Err(found) = compile_text(policy, app, site::config(), None) {
        config_toml::judge(&found, source);
    }
}
