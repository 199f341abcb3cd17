//! The text of a policy, from a file in the policies folder or from the program itself.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use sallyport_core::{
    config::{AppConfig, Config, Diagnostic, Fault, Key},
    names::spelling::did_you_mean,
};

/// The built-in policies, by name.
const BUILTIN: &[(&str, &str)] = &[("worker", include_str!("../../../../policies/worker.toml"))];

/// Returns the text of a built-in policy.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// Returns the names of the built-in policies.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// Why there is no policy to read.
pub(super) enum Missing {
    /// There is neither a file nor a built-in policy of that name.
    File(Fault),
    /// There is a file, but it cannot be read.
    Text(Diagnostic),
}

/// The text of a policy, and where it was found.
pub(super) struct Source {
    /// The path of its file, which exists only if `place` is `File`.
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) place: SourcePlace,
}

/// Where the text of a policy was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SourcePlace {
    File,
    BuiltIn,
}

/// Reads the policy of an application. A file in the policies folder overrides the built-in policy of the same name.
pub(super) fn source(i: usize, app: &AppConfig, config: &Config) -> Result<Source, Missing> {
    let path = config.policies_dir.join(format!("{}.toml", app.policy));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Source { path, text, place: SourcePlace::File }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match builtin(&app.policy) {
            Some(text) => Ok(Source { path, text: text.to_owned(), place: SourcePlace::BuiltIn }),
            None => Err(Missing::File(Fault::new(app_key(i, "policy"), no_policy(app, config, &path)))),
        },
        Err(e) => Err(Missing::Text(Diagnostic::in_file(path, format!("cannot be read: {e}")))),
    }
}

fn no_policy(app: &AppConfig, config: &Config, path: &Path) -> String {
    let files = std::fs::read_dir(&config.policies_dir).into_iter().flatten().flatten();
    let stems = files.filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned()));
    let known: BTreeSet<_> = stems.chain(builtin_names().map(str::to_owned)).collect();
    let hint = did_you_mean(&app.policy, known.iter().map(String::as_str));
    format!("there is no policy {:?}{hint}; create it as {}, or use another policy", app.policy, path.display())
}

fn app_key(i: usize, name: &'static str) -> Vec<Key> {
    vec![Key::element("app", i), Key::table(name)]
}
