//! Compiles policy files into a site. Every contradiction is reported here, at startup, with its line and column.

mod addresses;
mod app;
mod body;
mod compiler;
mod cors;
mod defaults;
mod faults;
mod links;
mod own_routes;
mod placed_route;
mod rates;
mod route;
mod route_table;

use std::{collections::HashSet, path::Path};

use sallyport_core::config::{self, AppConfig, Config, Diagnostic, Diagnostics, Document};

use self::{compiler::Compiler, cors::origin_faults, faults::Faults};
use super::{
    site::{App, Site},
    source::{Missing, Source, SourcePlace, source},
    wire,
};

/// The text of a policy.
#[derive(Clone, Copy, Debug)]
pub struct PolicyText<'a> {
    /// The path of its file, for diagnostics.
    pub path: &'a Path,
    /// What the file contains.
    pub text: &'a str,
}

/// Reads and compiles the policy of every application.
///
/// # Errors
/// Lists every fault of every policy, and every application without a policy.
pub fn compile(config: &Config) -> Result<Site, Diagnostics> {
    compile_after(config, &Site::new(Vec::new()))
}

/// Like [`compile`], for a site that replaces `old`: unchanged rates keep their counts.
///
/// # Errors
/// The same as [`compile`].
pub fn compile_after(config: &Config, old: &Site) -> Result<Site, Diagnostics> {
    let mut faults = Vec::new();
    let mut of_config = Vec::new();
    let mut apps = Vec::new();
    for (i, app) in config.apps.iter().enumerate() {
        of_config.extend(origin_faults(i, app));
        match source(i, app, config) {
            Ok(source) => match compile_source(&source, app, config, old) {
                Ok(app) => apps.push(app),
                Err(Diagnostics(found)) => faults.extend(found),
            },
            Err(Missing::File(fault)) => of_config.push(fault),
            Err(Missing::Text(fault)) => faults.push(fault),
        }
    }
    if !of_config.is_empty() {
        let text = std::fs::read_to_string(&config.file).unwrap_or_default();
        faults.splice(0..0, config::locate(&config.file, &text, &of_config).0);
    }
    // Two applications can share a policy.
    let mut seen = HashSet::new();
    faults.retain(|fault| seen.insert(fault.to_string()));
    if faults.is_empty() { Ok(Site::new(apps)) } else { Err(Diagnostics(faults)) }
}

fn compile_source(source: &Source, app: &AppConfig, config: &Config, old: &Site) -> Result<App, Diagnostics> {
    let Source { path, text, place } = source;
    if *place == SourcePlace::BuiltIn && old.apps.iter().any(|old| old.file.as_ref() == Some(path)) {
        let what = "the file is gone; its policy stays in force. Put the file back, or restart the gateway to use \
            the built-in policy of this name";
        return Err(Diagnostic::in_file(path, what).into());
    }
    let same = old.apps.iter().find(|old| *old.name == *app.name);
    let mut compiled = compile_text(PolicyText { path, text }, app, config, same.map(|old| &**old))?;
    compiled.file = Some(path.clone()).filter(|_| *place == SourcePlace::File);
    Ok(compiled)
}

/// Compiles a policy for one application of `config`; `old` works as in [`compile_after`].
///
/// # Errors
/// Lists every fault of the policy.
pub fn compile_text(
    policy: PolicyText<'_>,
    app: &AppConfig,
    config: &Config,
    old: Option<&App>,
) -> Result<App, Diagnostics> {
    let PolicyText { path, text } = policy;
    let Document { value, mut faults, lost_elements } = Document::<wire::Policy>::read(path, text);
    let Some(policy) = value.filter(|_| !lost_elements) else { return Err(faults) };
    let mut compiler = Compiler {
        max_clients: config.limits.max_tracked_clients,
        allow_private: &config.worker.allow_private,
        old,
        source: text.into(),
        has_countries: config.geoip.is_some(),
        faults: Faults::default(),
    };
    let app = compiler.app(app, policy);
    faults.0.extend(config::locate(path, text, &compiler.faults.0).0);
    if faults.0.is_empty() { Ok(app) } else { Err(faults) }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "compile_site_tests.rs"]
mod site_tests;
