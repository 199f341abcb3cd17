//! Reads `config.toml` and the layers over it: built-in defaults < the file < environment < flags.

use std::path::Path;

use figment::{
    Figment,
    providers::{Env, Serialized},
};

use super::{
    diagnostic::{Diagnostic, Diagnostics},
    resolve::Fault,
    types::Config,
    wire::Wire,
};

const ENV_PREFIX: &str = "SALLYPORT_";

/// Reads the configuration at `path` as a start would.
///
/// # Errors
/// Every fault that was found, each with its place and its mend.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    let source = std::fs::read_to_string(path)
        .map_err(|e| Diagnostic::in_file(path, format!("cannot be read: {e}; `sallyport init` writes one")))?;
    read(path, &source)
}

/// Reads `source`, the text of the file at `path`, with what the environment has to say of it.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, source: &str) -> Result<Config, Diagnostics> {
    let file: Wire = parse(path, source)?;
    let wire = layered(&file)?;
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Config::resolve(wire, &file).map_err(|faults| locate(path, source, &faults))
}

/// Parses a TOML file into `T`, with a fault at its line and column.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(path: &Path, source: &str) -> Result<T, Diagnostics> {
    toml::from_str(source).map_err(|e| Diagnostic::at(path, source, e.span().as_ref(), e.message().trim()).into())
}

fn layered(file: &Wire) -> Result<Wire, Diagnostics> {
    let env = Env::prefixed(ENV_PREFIX).split("__");
    Figment::from(Serialized::defaults(file)).merge(env).extract().map_err(|errors| {
        Diagnostics(
            errors
                .into_iter()
                .map(|e| {
                    let name = format!("{ENV_PREFIX}{}", e.path.join("__").to_uppercase());
                    Diagnostic::in_environment(name, e.kind.to_string())
                })
                .collect(),
        )
    })
}

/// Gives each fault the line and column of its key in `source`, the text of the file at `path`.
pub(crate) fn locate(path: &Path, source: &str, faults: &[Fault]) -> Diagnostics {
    let tree = toml::de::DeTable::parse(source).ok();
    let place = |fault: &Fault| {
        let mut span = None;
        let mut table = tree.as_ref().map(toml::Spanned::get_ref);
        for key in &fault.key {
            let Some(value) = table.and_then(|t| t.get(key.name)) else { break };
            span = Some(value.span());
            let element = key.index.and_then(|i| value.get_ref().get(i));
            if let Some(element) = element {
                span = Some(element.span());
            }
            table = element.map_or(value.get_ref(), toml::Spanned::get_ref).as_table();
        }
        span
    };
    Diagnostics(faults.iter().map(|f| Diagnostic::at(path, source, place(f).as_ref(), f.what.clone())).collect())
}
