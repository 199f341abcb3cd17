//! Detects that all clients appear to have one private address, as behind a container's gateway, and warns once.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::warn;

/// The number of connections from one address, with none from another, that causes the warning.
const SUSPICIOUS: u32 = 50;
/// How long connections are counted before the count restarts.
const WINDOW: Duration = Duration::from_mins(10);

/// Watches the addresses that connections come from.
#[derive(Debug, Default)]
pub(super) struct SharedAddress {
    said: AtomicBool,
    seen: Mutex<Option<Window>>,
}

/// The connections in one window.
#[derive(Debug)]
struct Window {
    since: Instant,
    first: IpAddr,
    connections: u32,
    others: bool,
}

impl SharedAddress {
    /// Counts one connection. It never waits: of simultaneous connections, only one is counted.
    pub(super) fn note(&self, address: IpAddr, now: Instant) {
        if self.said.load(Ordering::Relaxed) || address.is_loopback() {
            return;
        }
        let suspicious = self.seen.try_lock().is_some_and(|mut seen| Window::note(&mut seen, address, now));
        if suspicious && !self.said.swap(true, Ordering::Relaxed) {
            warn!(
                %address,
                "{SUSPICIOUS} connections in a row came from this one private address: if it is the gateway of a \
                 container's network or a NAT, clients cannot be distinguished, and limits by address apply to all \
                 of them together; give the container the host's network, or put a proxy in front of it that protocol \
                 PROXY protocol, and set gateway.trusted_proxies and gateway.proxy_protocol"
            );
        }
    }
}

impl Window {
    /// Returns true at the connection that causes the warning.
    fn note(seen: &mut Option<Self>, address: IpAddr, now: Instant) -> bool {
        let seen = match seen {
            Some(seen) if now.duration_since(seen.since) < WINDOW => seen,
            over => over.insert(Self { since: now, first: address, connections: 0, others: false }),
        };
        seen.others |= seen.first != address;
        seen.connections = seen.connections.saturating_add(1);
        !seen.others && is_private(address) && seen.connections == SUSPICIOUS
    }
}

/// Returns true for the addresses of RFC 1918, RFC 6598 (100.64.0.0/10) and RFC 4193, and for link-local addresses.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many warnings there are when connections come from `addresses`, one every `pause`.
    fn suspicions<'a>(addresses: impl IntoIterator<Item = &'a str>, pause: Duration) -> usize {
        let mut seen = None;
        let mut now = Instant::now();
        let mut note = |address: &str| {
            now += pause;
            Window::note(&mut seen, address.parse().unwrap(), now)
        };
        addresses.into_iter().filter(|a| note(a)).count()
    }

    #[test]
    fn one_private_address_for_everybody_is_suspicious() {
        let at_once = Duration::ZERO;
        for address in ["172.17.0.1", "10.0.2.2", "192.168.65.1", "100.64.0.1", "fd00::1"] {
            assert_eq!(suspicions([address; 49], at_once), 0, "{address}");
            assert_eq!(suspicions([address; 500], at_once), 1, "{address}");
        }
        for address in ["192.0.2.7", "2001:db8::1", "172.32.0.1"] {
            assert_eq!(suspicions([address; 500], at_once), 0, "{address}");
        }
    }

    #[test]
    fn a_second_address_or_few_connections_over_time_are_not_suspicious() {
        let mixed = ["192.0.2.7"].into_iter().chain(["172.17.0.1"; 60]);
        assert_eq!(suspicions(mixed, Duration::ZERO), 0);
        assert_eq!(suspicions(["172.17.0.1"; 500], Duration::from_secs(13)), 0, "less than fifty in ten minutes");
        let later = ["192.0.2.7"].into_iter().chain(["172.17.0.1"; 120]);
        assert_eq!(suspicions(later, Duration::from_secs(10)), 1, "in the next window");
    }
}
