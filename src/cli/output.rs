//! Output of commands: text for people, or one JSON object.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// The `--json` option.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Prints `document` as JSON, or as the text that `words` returns for it.
    pub(super) fn print<T: Serialize>(self, document: &T, words: impl FnOnce(&T) -> String) -> Result<()> {
        let text = if self.json { serde_json::to_string(document)? } else { words(document) };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end())?;
        Ok(stdout.flush()?)
    }
}

/// Options of every command that works on an instance.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Path of the configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Formats rows as columns, each as wide as its widest cell.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|i| {
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
            cells.chain(head.get(i).map(|h| h.len())).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// Returns `sallyport WORDS` as the user must type it in this folder for the instance of `config`.
pub(super) fn command_line(config: &Path, words: &str) -> String {
    let here = std::path::absolute("config.toml").ok();
    if std::path::absolute(config).ok() == here {
        return format!("sallyport {words}");
    }
    format!("sallyport {words} --config {}", quoted(&config.to_string_lossy()))
}

/// Quotes a word so that it can be pasted into a shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:,=@%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Formats a time for people, in UTC with a precision of 1 s.
pub(super) fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_paste_is_quoted_and_names_its_configuration() {
        assert_eq!(quoted("/srv/door/ca.pem"), "/srv/door/ca.pem");
        assert_eq!(quoted("/home/ana b/it's $HOME"), "'/home/ana b/it'\\''s $HOME'");
        assert_eq!(command_line(Path::new("config.toml"), "up"), "sallyport up");
        assert_eq!(command_line(Path::new("/a b/c.toml"), "up"), "sallyport up --config '/a b/c.toml'");
    }
}
