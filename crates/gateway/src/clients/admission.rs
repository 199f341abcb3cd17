//! Admission control: counts running requests and watches memory. Beyond the limits, new requests are rejected at once.

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hash},
    net::IpAddr,
    num::NonZeroU64,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use sallyport_core::{addresses::client_network, config::GatewayLimits, names::username::UserName};

use crate::observe::process::resident_bytes;

/// With less available memory than this, requests are rejected: their buffers and everything else on the machine need it.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// The number of counters for clients, chosen by an unpredictable hash. Two clients that share a counter share its limit.
const COUNTERS: usize = 4_096;

/// The maximum number of paused clients, in total and per user.
const MAX_PAUSED: usize = 500;
const MAX_PAUSED_PER_USER: usize = 16;
/// The maximum number of HTTP/2 streams whose remaining body is being discarded, in total and per client.
const MAX_LEFTOVERS: usize = 2_000;
const MAX_LEFTOVERS_PER_CLIENT: usize = 200;

/// The current load.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    requests: RunningCount,
    /// Streams that have been answered and whose body is still being read.
    leftovers: RunningCount,
    /// Clients that have paused a response, by user.
    paused: RunningCount,
    short_of_memory: AtomicBool,
}

/// A counter in total and per client or user.
#[derive(Debug)]
struct RunningCount {
    all: AtomicUsize,
    clients: Box<[AtomicUsize]>,
    hasher: RandomState,
}

/// A guard for one counted request, stream or pause. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct AdmissionGuard<'a> {
    all: &'a AtomicUsize,
    own: Option<&'a AtomicUsize>,
}

impl Default for RunningCount {
    fn default() -> Self {
        let clients = (0..COUNTERS).map(|_| AtomicUsize::new(0)).collect();
        Self { all: AtomicUsize::new(0), clients, hasher: RandomState::new() }
    }
}

impl RunningCount {
    /// Counts one more for `client`, or for an address that many clients share if that is `None`. Returns `None` at `max` in total or
    /// `max_each` for `client`.
    fn add(&self, max: usize, max_each: usize, client: Option<impl Hash>) -> Option<AdmissionGuard<'_>> {
        let own = client.and_then(|client| self.clients.get(self.counter_index(&client)));
        let share = AdmissionGuard { all: &self.all, own };
        let before = self.all.fetch_add(1, Ordering::Relaxed);
        let own_before = own.map_or(0, |own| own.fetch_add(1, Ordering::Relaxed));
        (before < max && own_before < max_each).then_some(share)
    }

    fn counter_index(&self, client: &impl Hash) -> usize {
        let hash = self.hasher.hash_one(client);
        usize::try_from(hash % COUNTERS as u64).unwrap_or_default()
    }
}

impl Admission {
    /// Admits a request of `client`, or of an address that many clients share if that is `None`. Returns `None` at the limits.
    pub(crate) fn admit(&self, limits: &GatewayLimits, client: Option<IpAddr>) -> Option<AdmissionGuard<'_>> {
        let client = client.map(client_network);
        let share = self.requests.add(limits.max_requests, limits.max_requests_per_client, client);
        share.filter(|_| !self.is_short_of_memory())
    }

    /// Admits a stream whose client has been answered and may still be sending.
    pub(crate) fn admit_leftovers(&self, client: Option<IpAddr>) -> Option<AdmissionGuard<'_>> {
        let share = self.leftovers.add(MAX_LEFTOVERS, MAX_LEFTOVERS_PER_CLIENT, client.map(client_network));
        share.filter(|_| !self.is_short_of_memory())
    }

    /// Admits a client of `user` that has stopped reading for longer.
    pub(crate) fn admit_paused(&self, user: &UserName) -> Option<AdmissionGuard<'_>> {
        self.paused.add(MAX_PAUSED, MAX_PAUSED_PER_USER, Some(user.as_str()))
    }

    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.short_of_memory.load(Ordering::Relaxed)
    }

    /// Checks the memory: against `max_bytes`, the maximum that this process may hold, or, if that is `None`, against what the system can spare.
    /// Returns true if memory has just become short.
    pub(crate) fn look_at_memory(&self, max_bytes: Option<NonZeroU64>) -> bool {
        let short = match max_bytes {
            Some(max_bytes) => resident_bytes().is_some_and(|held| held > max_bytes.get()),
            None => left() < RESERVE_BYTES,
        };
        self.short_of_memory.swap(short, Ordering::Relaxed) != short && short
    }
}

impl Drop for AdmissionGuard<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(own) = self.own {
            own.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Returns the memory that is left for all processes, of the machine's or of the service manager's allotment. `u64::MAX` if it is unknown,
/// since a wrong guess would reject everything.
fn left() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    machine.unwrap_or(u64::MAX).min(allotted().unwrap_or(u64::MAX))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Returns the memory left by version 2 of control groups; reclaimable file cache counts as left.
fn allotted() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok()?;
    let folder = format!("/sys/fs/cgroup{}", group.lines().find_map(|line| line.strip_prefix("0::"))?);
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
    let max = read("memory.max")?.trim().parse::<u64>().ok()?;
    let current = read("memory.current")?.trim().parse().ok()?;
    let reclaimable = read("memory.stat").as_deref().and_then(inactive_file).unwrap_or(0);
    Some(max.saturating_sub(current).saturating_add(reclaimable))
}

fn inactive_file(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_requests: usize, max_requests_per_client: usize) -> GatewayLimits {
        GatewayLimits {
            max_tracked_clients: 1,
            max_connections: 1,
            max_connections_per_client: 1,
            max_requests,
            max_requests_per_client,
            max_memory: None,
            min_body_rate: None,
            send_timeout: std::time::Duration::MAX,
            pause_timeout: std::time::Duration::MAX,
        }
    }

    #[test]
    fn a_share_is_released_and_no_more_are_admitted_than_the_limit() {
        let load = Admission::default();
        let limits = limits(2, 9);
        let one = load.admit(&limits, None).unwrap();
        let two = load.admit(&limits, None);
        assert!(two.is_some() && load.admit(&limits, None).is_none() && load.admit(&limits, None).is_none());
        drop(one);
        assert!(load.admit(&limits, None).is_some());
    }

    #[test]
    fn one_client_cannot_have_all_shares() {
        let load = Admission::default();
        let limits = limits(9, 1);
        let client = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let _one = load.admit(&limits, client(1)).unwrap();
        assert!(load.admit(&limits, client(1)).is_none() && load.admit(&limits, client(1)).is_none());
        assert!((2..9).any(|n| load.admit(&limits, client(n)).is_some()), "not all of them share one counter");
        assert!(load.admit(&limits, None).is_some());
    }

    #[test]
    fn streams_that_are_read_to_their_end_are_counted_apart_from_requests() {
        let load = Admission::default();
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        let held: Vec<_> = (0..MAX_LEFTOVERS_PER_CLIENT).map(|_| load.admit_leftovers(client).unwrap()).collect();
        assert!(load.admit_leftovers(client).is_none() && load.admit_leftovers(None).is_some());
        assert!(load.admit(&limits(1, 1), client).is_some(), "they do not count as requests");
        drop(held);
        assert!(load.admit_leftovers(client).is_some());
    }

    #[test]
    fn one_user_cannot_use_up_all_pauses() {
        let load = Admission::default();
        let [ana, eve] = ["ana", "eve"].map(|name| name.parse::<UserName>().unwrap());
        let held: Vec<_> = (0..MAX_PAUSED_PER_USER).map(|_| load.admit_paused(&ana).unwrap()).collect();
        assert!(load.admit_paused(&ana).is_none() && load.admit_paused(&eve).is_some());
        drop(held);
        assert!(load.admit_paused(&ana).is_some());
    }

    #[test]
    fn memory_is_read_as_the_system_writes_it() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert_eq!(inactive_file("anon 1\ninactive_file 4096\n"), Some(4096));
        assert!(left() > 0);
    }

    #[test]
    fn a_process_over_its_memory_limit_admits_no_more_requests() {
        let load = Admission::default();
        let little = NonZeroU64::new(1);
        let plenty = NonZeroU64::new(u64::MAX);
        assert!(load.look_at_memory(little), "it is reported once");
        assert!(!load.look_at_memory(little) && load.admit(&limits(9, 9), None).is_none());
        assert!(!load.look_at_memory(plenty) && load.admit(&limits(9, 9), None).is_some());
    }
}
