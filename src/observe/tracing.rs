//! Sets up `tracing`: plain lines on standard error, none longer and none more often than is of use.

mod budget;

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use self::budget::Budget;

/// The longest line, in bytes; libraries repeat what strangers send.
const MAX_LINE: usize = 4_096;

/// Writes each line to standard error.
struct Stderr;

/// Cuts a line that is too long. It never fails: whoever cannot be told of anything need not be told of that.
struct Line<W>(W);

/// Starts logging by a filter in `tracing` syntax, such as "info" or "info,sallyport::policy=debug".
///
/// Pingora logs a line for every HTTP/2 client that hangs up, so it is not heard at all; what matters of it is told by
/// the gateway.
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
    /// Takes one line, as `tracing` gives it.
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
    fn a_long_line_is_cut_where_a_character_ends() {
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
