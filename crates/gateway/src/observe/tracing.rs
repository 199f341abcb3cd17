//! Sets up `tracing`: plain lines on standard error, limited in length and rate.

mod budget;

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use self::budget::Budget;

/// Maximum length of a line, in bytes; libraries log what clients send.
const MAX_LINE: usize = 4_096;

/// Writes each line to standard error.
struct Stderr;

/// Truncates a line that is too long. Write errors are ignored, since there is nowhere left to report them.
struct Line<W>(W);

/// Starts logging with a filter in `tracing` syntax, such as "info" or "info,sallyport_gateway::policy=debug".
///
/// Pingora is turned off because it logs a line for every HTTP/2 client that disconnects; the gateway logs what matters.
pub fn start(filter: &str) {
    let filter = EnvFilter::try_new(format!("pingora=off,pingora_core=off,{filter}"));
    let builder = tracing_subscriber::fmt().with_ansi(io::stderr().is_terminal()).with_writer(Stderr);
    let budget = Budget::default();
    budget.keep();
    let subscriber = builder.with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info"))).finish();
    let _ = subscriber.with(budget).try_init();
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<io::StderrLock<'static>>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(io::stderr().lock())
    }
}

impl<W: Write> Write for Line<W> {
    /// Writes one line, which `tracing` passes in a single call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = match line.get(..MAX_LINE).filter(|start| start.len() < line.len()) {
            None => self.0.write_all(line),
            Some(start) => {
                let start = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                writeln!(self.0, "{start}... [{} bytes]", line.len())
            }
        };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> String {
        let mut out = Vec::new();
        assert_eq!(Line(&mut out).write(line.as_bytes()).unwrap(), line.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_long_line_is_truncated_at_a_character_boundary() {
        assert_eq!(written("short\n"), "short\n");
        let long = written(&format!("{}\n", "é".repeat(40_000)));
        assert_eq!(long, format!("{}... [80001 bytes]\n", "é".repeat(MAX_LINE / 2)));
        let odd = written(&format!("x{}\n", "é".repeat(40_000)));
        assert!(
            odd.starts_with("xé") && odd.ends_with("é... [80002 bytes]\n") && odd.len() < MAX_LINE + 30,
            "{}",
            odd.len()
        );
    }
}
