//! `sallyport ban`: manages bans; changes take effect immediately.

use std::{net::IpAddr, str::FromStr};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use sallyport_core::{
    addresses::{client_network, network_name},
    clock,
    config::Duration,
};
use sallyport_gateway::{lifecycle::control, limits, store::Withdrawal};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use super::{
    output::{Common, moment, table},
    state::State,
};

/// Upper limit for a reason, in characters.
const MAX_REASON_CHARS: usize = 200;

#[derive(Debug, Subcommand)]
pub(super) enum Ban {
    /// List current bans, with their end and reason.
    List(List),
    /// Ban an address immediately.
    Add(Add),
    /// Remove a ban immediately, and forget the earlier bans of that address.
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    common: Common,
    /// IPv4 address, or IPv6 address for its whole /64.
    address: Client,
    /// Duration of the ban, such as 1h (default: until it is removed).
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Duration>,
    /// Reason to show in the list.
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    reason: Reason,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    common: Common,
    /// Any address of the client, or its name in the list.
    address: Client,
}

/// One client, however its address was written.
#[derive(Clone, Copy, Debug)]
struct Client {
    address: IpAddr,
    network: IpAddr,
}

/// A text that fits on one line.
#[derive(Clone, Debug)]
struct Reason(String);

#[derive(Debug, Error)]
#[error("not an address; use the form \"192.0.2.7\", \"2001:db8::7\" or \"2001:db8::/64\"")]
struct NotOneClient;

#[derive(Debug, Error)]
#[error("use a single line of at most {MAX_REASON_CHARS} characters")]
struct NotOneLine;

#[derive(Debug, Serialize)]
struct Listed {
    bans: Vec<ListedBan>,
}

#[derive(Debug, Serialize)]
struct ListedBan {
    address: String,
    since: String,
    until: Option<String>,
    times: u32,
    reason: String,
}

impl Ban {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Add(add) => add.run(),
            Self::Remove(remove) => remove.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let now = clock::unix_now();
        let bans = state.store.bans()?.into_iter().filter(|ban| ban.holds(now)).map(ListedBan::from).collect();
        self.common.output.print(&Listed { bans }, |listed| {
            let row = |ban: &ListedBan| {
                let until = ban.until.clone().unwrap_or_else(|| "removed".into());
                [ban.address.clone(), until, ban.times.to_string(), ban.since.clone(), ban.reason.clone()]
            };
            table(["ADDRESS", "UNTIL", "TIMES", "SINCE", "REASON"], &listed.bans.iter().map(row).collect::<Vec<_>>())
        })
    }
}

impl Add {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let Client { address, network } = self.address;
        if !state.config.bans.enabled {
            bail!("bans are disabled; set bans.enabled = true");
        }
        if state.config.never_bans(address) {
            bail!(
                "{address} is exempt from bans: it is local (bans.include_local), a trusted proxy, a shared address, or listed in bans.allow"
            );
        }
        if self.duration.is_some_and(|duration| duration.0.as_secs() == 0) {
            bail!("a ban must last at least 1 second");
        }
        let since = clock::unix_now();
        let times = state.store.ban(network)?.map_or(0, |ban| ban.times);
        let until = self.duration.map(|duration| since.saturating_add_unsigned(duration.0.as_secs()));
        let ban = limits::Ban { network, why: self.reason.0, since, until, times };
        state.withdraw(&Withdrawal::Ban(ban.clone()))?;
        self.common.output.print(&ListedBan::from(ban), |ban| match &ban.until {
            Some(until) => format!("{} is banned until {until}.", ban.address),
            None => format!("{} is banned until it is removed.", ban.address),
        })
    }
}

impl Remove {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let name = network_name(self.address.network);
        // Starts with bans that are only in memory, which the gateway would otherwise store.
        let unban = control::unban(&state.config.data_dir, self.address.network);
        let held = unban.context("the running gateway could not be notified; try again")?;
        if !state.store.remove_ban(self.address.network)? && !held {
            bail!("{name} is not banned");
        }
        state.announce()?;
        self.common
            .output
            .print(&json!({ "address": name, "removed": true }), |_| format!("{name} is no longer banned."))
    }
}

impl FromStr for Client {
    type Err = NotOneClient;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let asked: IpNet =
            text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(|_| NotOneClient)?;
        let address = asked.addr().to_canonical();
        let network = client_network(asked.addr());
        let whole = asked.prefix_len() == asked.max_prefix_len();
        if whole || asked.trunc().to_string() == network_name(network) {
            Ok(Self { address, network })
        } else {
            Err(NotOneClient)
        }
    }
}

impl FromStr for Reason {
    type Err = NotOneLine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.chars().count() <= MAX_REASON_CHARS && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotOneLine) }
    }
}

impl From<limits::Ban> for ListedBan {
    fn from(ban: limits::Ban) -> Self {
        Self {
            address: network_name(ban.network),
            since: moment(ban.since),
            until: ban.until.map(moment),
            times: ban.times,
            reason: ban.why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_its_slash_64_and_nothing_larger() {
        let named = |text: &str| text.parse::<Client>().ok().map(|client| network_name(client.network));
        assert_eq!(named("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(named("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7"));
        for text in ["2001:db8::7", "2001:db8::/64", "2001:db8::7/128"] {
            assert_eq!(named(text).as_deref(), Some("2001:db8::/64"), "{text}");
        }
        assert_eq!(named("64:ff9b::8.8.4.4").as_deref(), Some("8.8.4.4"));
        assert_eq!(named("2002:a00:1::/48").as_deref(), Some("2002:a00:1::/48"));
        assert!(
            ["192.0.2.0/24", "2001:db8::/48", "64:ff9b::/64", "2002:a00:1::/64", "nas.local", ""]
                .iter()
                .all(|text| named(text).is_none())
        );
    }
}
