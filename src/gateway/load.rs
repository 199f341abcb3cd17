//! How much is on its way, and whether there is memory for more: beyond that, new requests are turned away at once.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Less than this is left for a request's buffers, and for everything else on the machine.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Load {
    requests: AtomicUsize,
    short_of_memory: AtomicBool,
}

/// One request's share. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share<'a>(&'a Load);

impl Load {
    /// A share for a request, of `max`; None where there is no room.
    pub(super) fn admit(&self, max: usize) -> Option<Share<'_>> {
        let share = Share(self);
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        (before < max && !self.short_of_memory.load(Ordering::Relaxed)).then_some(share)
    }

    /// Looks at the memory that is left. `max_bytes` is what this process may hold; 0: what the system says.
    pub(super) fn look_at_memory(&self, max_bytes: u64) -> bool {
        let short = if max_bytes > 0 { resident() > Some(max_bytes) } else { left() < RESERVE_BYTES };
        self.short_of_memory.swap(short, Ordering::Relaxed) != short && short
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What this process holds.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// What is left for all processes: of the machine's memory, or of what the service manager allots. `u64::MAX` where
/// nobody knows, since to guess would be to turn everybody away.
fn left() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    machine.unwrap_or(u64::MAX).min(allotted().unwrap_or(u64::MAX))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// By the second version of control groups; what can be reclaimed of files counts as left.
fn allotted() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok()?;
    let folder = format!("/sys/fs/cgroup{}", group.lines().find_map(|line| line.strip_prefix("0::"))?);
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
    let (max, current) =
        (read("memory.max")?.trim().parse::<u64>().ok()?, read("memory.current")?.trim().parse().ok()?);
    let reclaimable = read("memory.stat").as_deref().and_then(inactive_file).unwrap_or(0);
    Some(max.saturating_sub(current).saturating_add(reclaimable))
}

fn inactive_file(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_and_no_more_are_given_than_there_are() {
        let load = Load::default();
        let one = load.admit(2).unwrap();
        let two = load.admit(2);
        assert!(two.is_some() && load.admit(2).is_none() && load.admit(2).is_none());
        drop(one);
        assert!(load.admit(2).is_some());
    }

    #[test]
    fn memory_is_read_as_the_system_writes_it() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert_eq!(inactive_file("anon 1\ninactive_file 4096\n"), Some(4096));
        assert!(resident().unwrap() > 1 << 20 && left() > 0);
    }

    #[test]
    fn who_holds_more_than_it_may_takes_no_more() {
        let load = Load::default();
        assert!(load.look_at_memory(1), "it is told once");
        assert!(!load.look_at_memory(1) && load.admit(10).is_none());
        assert!(!load.look_at_memory(u64::MAX) && load.admit(10).is_some());
    }
}
