//! Scopes and expiry of new keys and tokens. Values that make no sense are refused at creation.

use std::time::Duration as Time;

use anyhow::{Result, bail};
use sallyport_core::{clock, config::Duration, names::spelling::did_you_mean};
use sallyport_gateway::{identity::Scopes, policy};

use super::state::State;

/// Upper limit for an explicit lifetime; to exceed it, omit the expiry.
const LONGEST: Time = Time::from_hours(24 * 365 * 100);

/// Parses the requested scopes, each of which some route must require. Without any, the result is every scope of the user.
pub(super) fn scopes(state: &State, asked: &[String]) -> Result<Scopes> {
    if asked.is_empty() {
        return Ok(Scopes::All);
    }
    let scopes: Scopes = asked.join(" ").parse()?;
    let Scopes::Only(words) = &scopes else { return Ok(scopes) };
    if words.is_empty() {
        bail!("--scope is empty; name a scope, or omit it to allow everything that the user may do");
    }
    // A policy that is broken now does not prevent the creation of a key for scopes that it may require later.
    let Ok(site) = policy::compile(&state.config) else { return Ok(scopes) };
    let known = site.scopes();
    if let Some(unknown) = words.iter().find(|word| !known.contains(&***word)) {
        let list: Vec<_> = known.iter().copied().collect();
        let hint = did_you_mean(unknown, known.iter().copied());
        bail!("no route requires the scope {unknown:?}{hint}; known scopes: {}", list.join(", "));
    }
    Ok(scopes)
}

/// Returns the expiry of a credential created now, in Unix seconds.
pub(super) fn end(life: Duration) -> Result<i64> {
    if life.0 < Time::from_secs(1) {
        bail!("--expires {life} is too short to be useful; use at least \"1s\"");
    }
    if life.0 > LONGEST {
        bail!("--expires {life} is longer than a hundred years; use less");
    }
    Ok(clock::unix_now().saturating_add_unsigned(life.0.as_secs()))
}
