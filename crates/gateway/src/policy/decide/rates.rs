//! The steps about rates: by address before the credential is checked, by user and by key after it.

use std::net::IpAddr;

use sallyport_core::addresses;

use super::{fault::Fault, judgement::Judgement};
use crate::{
    identity::{CountsTowards, CredentialKind, Identity},
    limits::{Acquaintance, Exceeded, Tracker},
    policy::{Behind, LimitBy, RequestFacts, Route, Step, route::Limit},
};

impl Judgement<'_> {
    pub(super) fn address_rate(&mut self, route: &Route) -> Result<(), Fault> {
        let facts = self.facts;
        for limit in route.limits.iter().filter(|limit| limit.by == LimitBy::Address) {
            limit.tracker.check(addresses::client_network(facts.client), facts.acquaintance)?;
        }
        self.steps.push(Step::AddressRate);
        Ok(())
    }

    pub(super) fn user_rate(&mut self, route: &Route, identity: Option<&Identity>) -> Result<(), Fault> {
        for Limit { by, tracker } in &route.limits {
            match (by, identity) {
                (LimitBy::Address, Some(_) | None) => {}
                (LimitBy::User | LimitBy::Key, None) => count_stranger(tracker, self.facts.client)?,
                (LimitBy::User | LimitBy::Key, Some(identity)) => count_known(tracker, *by, identity, self.facts)?,
            }
        }
        self.steps.push(Step::UserRate);
        Ok(())
    }
}

fn count_known(tracker: &Tracker, by: LimitBy, identity: &Identity, facts: &RequestFacts<'_>) -> Result<(), Exceeded> {
    match identity.proof.counts_towards() {
        CountsTowards::Link(id) => count_link(tracker, identity.kind(), id, facts),
        CountsTowards::User => count_user(tracker, identity),
        CountsTowards::Credential(id) => match by {
            LimitBy::Key => tracker.check((identity.kind().name(), id), Acquaintance::Known),
            LimitBy::User | LimitBy::Address => count_user(tracker, identity),
        },
    }
}

fn count_user(tracker: &Tracker, identity: &Identity) -> Result<(), Exceeded> {
    tracker.check(("user", identity.user.as_str(), identity.generation), Acquaintance::Known)
}

fn count_stranger(tracker: &Tracker, client: IpAddr) -> Result<(), Exceeded> {
    tracker.check(addresses::client_network(client), Acquaintance::Stranger)
}

/// Anyone can hold a link, so requests with it do not use up its owner's rate. They count against the link, and against the client's
/// address together with its anonymous requests. A shared address says nothing about the holder, so it is not counted.
fn count_link(tracker: &Tracker, kind: CredentialKind, id: &str, facts: &RequestFacts<'_>) -> Result<(), Exceeded> {
    tracker.check((kind.name(), id), Acquaintance::Stranger)?;
    match facts.behind {
        Behind::One => count_stranger(tracker, facts.client),
        Behind::Many => Ok(()),
    }
}
