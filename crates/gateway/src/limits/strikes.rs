//! Strikes: counts, per client, the things that honest clients hardly ever do, until they amount to an offence.

use std::{collections::HashMap, fmt, mem, net::IpAddr, num::NonZeroU32};

use sallyport_core::config::{BansConfig, MAX_FORBIDDEN_PATHS};

/// One thing that a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It presented a credential that does not verify.
    Credential,
    /// It requested a path that no client may use. The number identifies the path, so that a repeated request does not count again.
    Path(u64),
    /// It made another request that was denied. Honest clients do that too, but not endlessly.
    Denied,
}

/// The limit that a client has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// This many failed credentials.
    Credentials(NonZeroU32),
    /// This many different forbidden paths.
    Paths(NonZeroU32),
    /// This many denied requests of any kind.
    Requests(NonZeroU32),
}

/// The strikes of clients.
///
/// Memory is bounded: when the young half of the table is full, it becomes the old half, and the previous old half is forgotten. A
/// client with a new strike moves to the young half, so a flood of other clients evicts inactive ones first.
#[derive(Debug)]
pub struct Strikes {
    max_clients: usize,
    young: HashMap<IpAddr, Record>,
    old: HashMap<IpAddr, Record>,
}

#[derive(Debug)]
struct Record {
    /// The time of the first of these strikes, in Unix seconds.
    since: i64,
    credentials: u32,
    paths: Vec<u64>,
    /// All strikes.
    requests: u32,
}

impl Strikes {
    /// Creates an empty table for at most `max_clients` clients.
    #[must_use]
    pub fn new(max_clients: usize) -> Self {
        Self { max_clients, young: HashMap::new(), old: HashMap::new() }
    }

    /// Counts a strike at `now` (Unix seconds). Returns an offence once, and then counts from zero again.
    pub fn add(&mut self, client: IpAddr, strike: Strike, config: &BansConfig, now: i64) -> Option<Offence> {
        let known = self.young.remove(&client).or_else(|| self.old.remove(&client));
        let mut record = known.filter(|r| r.is_of(config, now)).unwrap_or_else(|| Record::new(now));
        record.add(strike);
        let offence = record.offence(config);
        if offence.is_none() {
            self.keep(client, record);
        }
        offence
    }

    /// Forgets clients whose strikes no longer count; call this every few seconds.
    pub fn sweep(&mut self, config: &BansConfig, now: i64) {
        for clients in [&mut self.young, &mut self.old] {
            clients.retain(|_, record| record.is_of(config, now));
            clients.shrink_to_fit();
        }
    }

    /// Returns the number of remembered clients.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Returns true if no client is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn keep(&mut self, client: IpAddr, record: Record) {
        if self.young.len() >= self.max_clients.div_ceil(2) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(client, record);
    }
}

impl Record {
    fn new(since: i64) -> Self {
        Self { since, credentials: 0, paths: Vec::new(), requests: 0 }
    }

    /// Returns true during the window that began with the first strike; setting the clock back ends the window.
    fn is_of(&self, config: &BansConfig, now: i64) -> bool {
        u64::try_from(now - self.since).is_ok_and(|age| age < config.window.as_secs())
    }

    fn add(&mut self, strike: Strike) {
        self.requests = self.requests.saturating_add(1);
        match strike {
            Strike::Credential => self.credentials = self.credentials.saturating_add(1),
            Strike::Path(path) if self.paths.contains(&path) || self.paths.len() >= MAX_FORBIDDEN_PATHS => {}
            Strike::Path(path) => self.paths.push(path),
            Strike::Denied => {}
        }
    }

    fn offence(&self, config: &BansConfig) -> Option<Offence> {
        let paths = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        let reached = |limit: Option<NonZeroU32>, count| limit.filter(|limit| count >= limit.get());
        let credentials = reached(config.failed_credentials, self.credentials).map(Offence::Credentials);
        let forbidden = || reached(config.forbidden_paths, paths).map(Offence::Paths);
        credentials.or_else(forbidden).or_else(|| reached(config.denied_requests, self.requests).map(Offence::Requests))
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(count) => write!(f, "{count} failed credentials"),
            Self::Paths(count) => write!(f, "{count} forbidden paths"),
            Self::Requests(count) => write!(f, "{count} denied requests"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> BansConfig {
        BansConfig {
            enabled: true,
            failed_credentials: NonZeroU32::new(3),
            forbidden_paths: NonZeroU32::new(4),
            denied_requests: NonZeroU32::new(200),
            window: Duration::from_mins(1),
            durations: vec![Duration::from_mins(1)],
            spare_authenticated: Duration::ZERO,
            allow: Vec::new(),
            include_local: false,
        }
    }

    fn client(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn the_third_failed_credential_within_the_window_is_an_offence() {
        let mut strikes = Strikes::new(100);
        let config = config();
        let mut fail = |n, now| strikes.add(client(n), Strike::Credential, &config, now);
        assert_eq!([fail(1, 100), fail(1, 159), fail(2, 159)], [None; 3]);
        assert_eq!([fail(1, 160), fail(1, 161)], [None; 2], "the window of the first two is over");
        assert_eq!(fail(1, 162).map(|o| o.to_string()), Some("3 failed credentials".into()));
        assert_eq!([fail(1, 163), fail(2, 163)], [None; 2], "counting starts from zero again");
    }

    #[test]
    fn the_same_path_counts_once_and_does_not_add_up_with_credentials() {
        let mut strikes = Strikes::new(100);
        let config = config();
        let mut ask = |strike| strikes.add(client(1), strike, &config, 0);
        assert!((0..100).all(|_| ask(Strike::Path(7)).is_none()));
        assert_eq!([ask(Strike::Path(8)), ask(Strike::Credential), ask(Strike::Credential)], [None; 3]);
        assert_eq!([ask(Strike::Path(9)), ask(Strike::Path(8))], [None; 2]);
        assert_eq!(ask(Strike::Path(10)), Some(Offence::Paths(NonZeroU32::new(4).unwrap())));
    }

    #[test]
    fn a_kind_without_a_limit_is_never_an_offence() {
        let config = BansConfig { failed_credentials: None, forbidden_paths: None, denied_requests: None, ..config() };
        let mut strikes = Strikes::new(100);
        assert!((0..1000).all(|_| strikes.add(client(1), Strike::Credential, &config, 0).is_none()));
        assert!((0..1000).all(|n| strikes.add(client(1), Strike::Path(n), &config, 0).is_none()));
        assert_eq!(
            strikes.young[&client(1)].paths.len(),
            MAX_FORBIDDEN_PATHS,
            "paths do not pile up if there is no limit on them"
        );
    }

    #[test]
    fn a_flood_of_denied_requests_of_any_kind_is_an_offence() {
        let mut strikes = Strikes::new(100);
        let config = BansConfig { forbidden_paths: None, ..config() };
        let strike = |n: u64| if n.is_multiple_of(2) { Strike::Denied } else { Strike::Path(7) };
        assert!((0..199).all(|n| strikes.add(client(1), strike(n), &config, 0).is_none()));
        let offence = strikes.add(client(1), Strike::Denied, &config, 0);
        assert_eq!(offence, Some(Offence::Requests(NonZeroU32::new(200).unwrap())));
        assert!(
            (0..1000).all(|n| strikes.add(client(2), Strike::Denied, &config, n).is_none()),
            "one request per second is not a flood"
        );
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_hides_a_persistent_client() {
        let mut strikes = Strikes::new(1_000);
        let config = config();
        let mut caught = 0;
        for n in 0..100_000 {
            strikes.add(client(n + 10), Strike::Path(1), &config, 0);
            assert!(strikes.len() <= 1_000);
            if n % 400 == 0 {
                caught += u32::from(strikes.add(client(1), Strike::Credential, &config, 0).is_some());
            }
        }
        assert_eq!(caught, 250 / 3);
        strikes.sweep(&config, 60);
        assert!(strikes.is_empty());
    }
}
