//! Loads `config.toml` and the layers over it: built-in defaults < the file < environment < flags.

use std::path::{Path, PathBuf};

use super::{
    diagnostic::{Diagnostic, Diagnostics},
    document::Document,
    environment::{Variables, layered},
    fault::{Fault, Key},
    top_level::{Config, ConfigToml},
};

/// The result of reading a configuration.
pub struct Survey {
    /// The configuration, if it could be resolved; valid only if there are no faults.
    pub config: Option<Config>,
    /// What is wrong with the file and the variables.
    pub faults: Diagnostics,
    /// Where each value comes from.
    pub sources: Sources,
}

/// The file and the variables that a configuration was read from.
#[derive(Clone, Debug)]
pub struct Sources {
    path: PathBuf,
    text: String,
    variables: Variables,
}

/// Reads the configuration at `path`, as at startup.
///
/// # Errors
/// Lists every fault, each with its location and how to fix it.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    Survey::of(path).done()
}

/// Reads `source`, the text of the file at `path`, overridden by the environment.
///
/// # Errors
/// The same as [`load`].
pub fn read(path: &Path, source: &str) -> Result<Config, Diagnostics> {
    Survey::read(path, source).done()
}

impl Survey {
    /// Reads the file at `path`.
    pub fn of(path: &Path) -> Self {
        match text(path) {
            Ok(source) => Self::read(path, &source),
            Err(fault) => {
                let sources = Sources { path: path.to_owned(), text: String::new(), variables: Variables::default() };
                Self { config: None, faults: fault.into(), sources }
            }
        }
    }

    fn read(path: &Path, source: &str) -> Self {
        let Document { value, mut faults, lost_elements } = Document::<ConfigToml>::read(path, source);
        let mut sources = Sources { path: path.to_owned(), text: source.to_owned(), variables: Variables::default() };
        let Some(file) = value else { return Self { config: None, faults, sources } };
        let layered = layered(&file);
        faults.0.extend(layered.faults.0);
        sources.variables = layered.variables;
        // Locations depend on the index, which would be wrong with an element missing.
        if lost_elements {
            return Self { config: None, faults, sources };
        }
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (config, found) = Config::validate(layered.wire, &file);
        faults.0.extend(sources.locate(&found).0);
        Self { config, faults, sources }
    }

    fn done(self) -> Result<Config, Diagnostics> {
        match self.config {
            Some(config) if self.faults.0.is_empty() => Ok(config),
            _ => Err(self.faults),
        }
    }
}

impl Sources {
    /// Finds the location of each fault: the variable that sets its key, or the line and column in the file.
    pub fn locate(&self, faults: &[Fault]) -> Diagnostics {
        let Diagnostics(mut located) = locate(&self.path, &self.text, faults);
        for (diagnostic, fault) in located.iter_mut().zip(faults) {
            if let Some(variable) = self.variables.setting(fault.key.iter().map(|key| key.name)) {
                *diagnostic = Diagnostic::in_environment(variable, fault.what.clone()).of_key(&diagnostic.key);
            }
        }
        Diagnostics(located)
    }
}

fn text(path: &Path) -> Result<String, Diagnostic> {
    let bytes = std::fs::read(path).map_err(|e| {
        let what = match e.kind() {
            std::io::ErrorKind::NotFound => {
                "does not exist; pass the configuration with --config FILE, or create one with `sallyport init`"
                    .to_owned()
            }
            _ => format!("cannot be read: {e}"),
        };
        Diagnostic::in_file(path, what)
    })?;
    String::from_utf8(bytes).map_err(|_| Diagnostic::in_file(path, "is not UTF-8; save it as UTF-8 text"))
}

/// Finds the line and column of each fault's key in `source`, the text of the file at `path`.
pub fn locate(path: &Path, source: &str, faults: &[Fault]) -> Diagnostics {
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
    let located = |f: &Fault| Diagnostic::at(path, source, place(f).as_ref(), f.what.clone()).of_key(&written(&f.key));
    Diagnostics(faults.iter().map(located).collect())
}

/// Formats a path such as `app[0].upstream`.
fn written(way: &[Key]) -> String {
    let step = |key: &Key| key.index.map_or_else(|| key.name.to_owned(), |i| format!("{}[{i}]", key.name));
    way.iter().map(step).collect::<Vec<_>>().join(".")
}
