//! Process metrics, read from the operating system for each scrape.

use std::{
    fmt, fs,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

/// The fields of `/proc/self/stat` in use here (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    resident_pages: u64,
}

/// Returns the resident memory of this process, or None if the system does not report it.
#[must_use]
pub(crate) fn resident_bytes() -> Option<u64> {
    stat().map(|stat| stat.resident_bytes())
}

impl Process {
    pub(super) fn started_now() -> Self {
        Self { started: SystemTime::now() }
    }
}

/// Omits values that cannot be read.
impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut tell = |name, help, metric: &dyn ScrapedMetric| metric.tell(&mut encoder, name, help);
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0.0, Duration::as_secs_f64);
        tell("process_start_time_seconds", "Start time, in seconds since 1970", &ConstGauge::new(started))?;
        if let Some(stat) = stat() {
            tell("process_cpu_seconds", "CPU time in user and system mode", &ConstCounter::new(stat.cpu_seconds()))?;
            tell("process_resident_memory_bytes", "Resident memory in bytes", &ConstGauge::new(stat.resident_bytes()))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the descriptor of the folder that is being read.
            let open = u64::try_from(open.count()).unwrap_or(u64::MAX).saturating_sub(1);
            tell("process_open_fds", "Open file descriptors", &ConstGauge::new(open))?;
        }
        let max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        tell("process_max_fds", "Maximum number of open file descriptors", &ConstGauge::new(max))
    }
}

/// A metric that exists for one scrape.
trait ScrapedMetric {
    fn tell(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> ScrapedMetric for M {
    fn tell(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name, which may contain anything; the third field follows the last parenthesis.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let user: u64 = fields.nth(11)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let resident_pages = fields.nth(8)?.parse().ok()?;
        Some(Self { cpu_ticks: user + system, resident_pages })
    }

    fn cpu_seconds(&self) -> f64 {
        seconds(self.cpu_ticks, clock_ticks_per_second())
    }

    fn resident_bytes(&self) -> u64 {
        self.resident_pages * u64::try_from(page_size()).unwrap_or(4096)
    }
}

fn stat() -> Option<Stat> {
    Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn seconds(ticks: u64, per_second: u64) -> f64 {
    Duration::from_millis(ticks.saturating_mul(1_000) / per_second.max(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }

    #[test]
    fn the_fields_are_counted_from_the_last_parenthesis() {
        let line =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 130 20 0 0 20 0 5 0 12345 1000000 321 18446744073709551615 1";
        assert_eq!(Stat::parse(line), Some(Stat { cpu_ticks: 150, resident_pages: 321 }));
        assert_eq!(Stat::parse("7 (a"), None);
    }
}
