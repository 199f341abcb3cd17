//! No text of a policy makes a start panic, and each fault is at a place that is there.

use std::path::Path;

use sallyport::policy::compile_text;

use super::{config_toml, site};

pub fn run(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let app = &site::config().apps[0];
    if let Err(found) = compile_text((Path::new("/etc/policy.toml"), source), app, site::config(), None) {
        config_toml::judge(&found, source);
    }
}
