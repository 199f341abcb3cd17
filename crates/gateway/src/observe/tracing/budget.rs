//! A budget for the ordinary log: messages that clients can cause repeatedly are counted instead of written.

use std::{collections::HashMap, mem, sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber, callsite,
    field::{Field, Visit},
    warn,
};
use tracing_subscriber::{Layer, layer::Context};

/// The length of a period; at its end, a message says what was omitted.
const PERIOD: Duration = Duration::from_secs(10);
/// Messages of each kind written per period.
const MAX_OWN: u32 = 100;
/// The same for messages of libraries, which do not limit what a client can cause.
const MAX_FOREIGN: u32 = 10;
/// Kinds that are distinguished; there are as many as places in the source that log something.
const MAX_KINDS: usize = 1_000;
/// Targets whose volume is limited elsewhere: a ban is one line, which other programs read; each job has lines of its own; and only the owner
/// can make the gateway reload.
const BOUNDED_ELSEWHERE: [&str; 3] = ["sallyport", "sallyport::egress", "sallyport::reload"];

/// Counts messages of each kind, so that none is written without limit. Messages at `debug` and `trace` level are not limited.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<Mutex<HashMap<Kind, LineCount>>>);

/// One place in the source; for libraries that use the `log` crate, one module and level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    callsite: callsite::Identifier,
    target: Option<Box<str>>,
}

#[derive(Clone, Debug)]
struct LineCount {
    target: &'static str,
    written: u32,
    left_out: u64,
}

/// Extracts the module that a message of the `log` crate comes from.
#[derive(Default)]
struct LogTarget(Option<Box<str>>);

impl Budget {
    /// Logs at the end of each period what was omitted, for as long as the process runs.
    pub(super) fn keep(&self) {
        let budget = self.clone();
        let thread = thread::Builder::new().name("log-budget".into()).stack_size(128 << 10);
        let _ = thread.spawn(move || {
            loop {
                thread::sleep(PERIOD);
                budget.turn();
            }
        });
    }

    fn admits(&self, kind: Kind, target: &'static str) -> bool {
        let max = if is_own(kind.target.as_deref().unwrap_or(target)) { MAX_OWN } else { MAX_FOREIGN };
        let mut kinds = self.0.lock();
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            return false;
        }
        let count = kinds.entry(kind).or_insert(LineCount { target, written: 0, left_out: 0 });
        if count.written < max {
            count.written += 1;
            return true;
        }
        count.left_out += 1;
        false
    }

    fn turn(&self) {
        let kinds = mem::take(&mut *self.0.lock());
        for (kind, LineCount { target, left_out, .. }) in kinds.into_iter().filter(|(_, count)| count.left_out > 0) {
            let from = kind.target.as_deref().unwrap_or(target);
            warn!(from, left_out, "omitted {left_out} more messages like the last ones from {from} in {PERIOD:?}");
        }
    }
}

impl<S: Subscriber> Layer<S> for Budget {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || BOUNDED_ELSEWHERE.contains(&metadata.target()) {
            return true;
        }
        let mut found = LogTarget::default();
        if metadata.target() == "log" {
            event.record(&mut found);
        }
        self.admits(Kind { callsite: metadata.callsite(), target: found.0 }, metadata.target())
    }
}

impl Visit for LogTarget {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0 = Some(value.into());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

fn is_own(target: &str) -> bool {
    let own = ["sallyport", "sallyport_core", "sallyport_gateway", "sallyport_worker"];
    target.split("::").next().is_some_and(|package| own.contains(&package))
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing::info;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_counted_and_hides_no_other_kind() {
        let lines = Lines::default();
        let budget = Budget::default();
        let to = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish().with(budget.clone());
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..50_000 {
                warn!(target: "h2::proto", n, "flood of a library");
                info!(n, "our own flood");
                warn!(target: "sallyport", "banned {n}");
            }
            warn!(target: "h2::proto", "another one");
            budget.turn();
            warn!(target: "h2::proto", "flood of a library, later");
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("flood of a library n"), count("our own flood"), count("banned ")), (10, 100, 50_000));
        assert_eq!(count("another one"), 1);
        assert_eq!(
            count("omitted 49990 more messages like the last ones from h2::proto"),
            1,
            "{}",
            count("more messages")
        );
        assert_eq!((count("49900 more messages"), count("later")), (1, 1));
    }
}
