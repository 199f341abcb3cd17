//! `[bans]`: which clients are banned, and for how long.

use std::{num::NonZeroU32, time};

use ipnet::IpNet;

use super::{
    effect::{AT_ONCE, toml_table},
    fault::{Faults, Key},
    network::Network,
    units::Duration,
};

/// The number of forbidden paths that are remembered per client; `bans.forbidden_paths` cannot be larger.
pub const MAX_FORBIDDEN_PATHS: usize = 100;

/// The shortest period, and the shortest ban.
const MIN_DURATION: time::Duration = time::Duration::from_secs(1);

toml_table! {
    /// `[bans]`
    struct BansToml {
        enabled: bool = true => AT_ONCE;
        failed_credentials: u32 = 10 => AT_ONCE;
        forbidden_paths: u32 = 20 => AT_ONCE;
        denied_requests: u32 = 6_000 => AT_ONCE;
        window: Duration = Duration::seconds(600) => AT_ONCE;
        durations: Vec<Duration> = [600, 3_600, 86_400, 7 * 86_400].map(Duration::seconds).into() => AT_ONCE;
        spare_authenticated: Duration = Duration::seconds(86_400) => AT_ONCE;
        allow: Vec<String> = Vec::new() => AT_ONCE;
        include_local: bool = false => AT_ONCE;
    }
}

/// Which clients are banned, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BansConfig {
    /// Whether clients are banned at all.
    pub enabled: bool,
    /// The number of failed credentials that leads to a ban; `None` means no limit.
    pub failed_credentials: Option<NonZeroU32>,
    /// The number of different forbidden paths that leads to a ban; `None` means no limit.
    pub forbidden_paths: Option<NonZeroU32>,
    /// The number of denied requests of an unauthenticated client that leads to a ban; `None` means no limit.
    pub denied_requests: Option<NonZeroU32>,
    /// The period in which they are counted.
    pub window: time::Duration,
    /// The durations of a client's first ban, its second, and so on; the last one applies to all further bans.
    pub durations: Vec<time::Duration>,
    /// How long an authenticated client is exempt from bans.
    pub spare_authenticated: time::Duration,
    /// Networks that are never banned.
    pub allow: Vec<IpNet>,
    /// Whether this machine and its networks can be banned.
    pub include_local: bool,
}

impl BansConfig {
    pub(super) fn resolve(bans: BansToml, faults: &mut Faults<'_>) -> Self {
        if bans.forbidden_paths as usize > MAX_FORBIDDEN_PATHS {
            let what = format!("each path is remembered; write at most {MAX_FORBIDDEN_PATHS}, or 0 for no limit");
            faults.add("forbidden_paths", what);
        }
        if bans.window.0 < MIN_DURATION {
            faults.add("window", "must be at least \"1s\"");
        }
        if bans.durations.is_empty() {
            faults.add("durations", "no durations; write at least one, such as [\"1h\"]");
        }
        for (i, _) in bans.durations.iter().enumerate().filter(|(_, duration)| duration.0 < MIN_DURATION) {
            faults.add(Key::element("durations", i), "must be at least \"1s\"");
        }
        let allow = faults.all_parsed("allow", &bans.allow);
        Self {
            enabled: bans.enabled,
            failed_credentials: NonZeroU32::new(bans.failed_credentials),
            forbidden_paths: NonZeroU32::new(bans.forbidden_paths),
            denied_requests: NonZeroU32::new(bans.denied_requests),
            window: bans.window.0,
            durations: bans.durations.into_iter().map(|duration| duration.0).collect(),
            spare_authenticated: bans.spare_authenticated.0,
            allow: allow.into_iter().map(|Network(network)| network).collect(),
            include_local: bans.include_local,
        }
    }
}
