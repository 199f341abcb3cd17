//! Diagnostics: what is wrong in a file, where, and how to fix it, as `file:line:column: what is wrong; how to fix it`.

use std::{fmt, ops::Range, path::PathBuf};

use thiserror::Error;

/// One fault in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where the fault is.
    pub at: Located,
    /// The key, such as `app[0].upstream`; empty if the fault concerns no particular key.
    pub key: String,
    /// What is wrong and, after a semicolon, how to fix it.
    pub what: String,
}

/// The location of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// In a file, with line and column counted from 1; both are 0 if the fault concerns the file as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column within the line, in characters.
        column: usize,
    },
    /// In an environment variable or a flag.
    Environment(String),
}

/// All faults found in one pass; never empty when returned as an error.
#[derive(Clone, Debug, Default, Error, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostic {
    /// Creates a diagnostic for a file as a whole.
    pub fn in_file(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self { at: Located::File { path: path.into(), line: 0, column: 0 }, key: String::new(), what: what.into() }
    }

    /// Creates a diagnostic for the byte range `span` of `source`, the text of the file at `path`.
    pub fn at(path: impl Into<PathBuf>, source: &str, span: Option<&Range<usize>>, what: impl Into<String>) -> Self {
        let Some(span) = span else { return Self::in_file(path, what) };
        let before = source.get(..span.start.min(source.len())).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self { at: Located::File { path: path.into(), line, column }, key: String::new(), what: what.into() }
    }

    /// Creates a diagnostic for an environment variable or flag.
    pub fn in_environment(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: Located::Environment(name.into()), key: String::new(), what: what.into() }
    }

    /// Sets the key.
    #[must_use]
    pub fn of_key(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Located::File { path, line: 0, .. } => write!(f, "{}: ", path.display())?,
            Located::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display())?,
            Located::Environment(name) => write!(f, "{name}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}
