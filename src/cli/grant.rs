//! What a key or a token may be used for, and how long: what makes no sense is refused when it is asked for.

use std::time::Duration as Time;

use anyhow::{Result, bail};

use super::state::{State, now};
use crate::{config::Duration, identity::Scopes, policy, spelling::did_you_mean};

/// Whoever means longer leaves it out.
const LONGEST: Time = Time::from_hours(24 * 365 * 100);

/// The scopes that were asked for, each of which opens something; without any, all of the user's.
pub(super) fn scopes(state: &State, asked: &[String]) -> Result<Scopes> {
    if asked.is_empty() {
        return Ok(Scopes::All);
    }
    let scopes: Scopes = asked.join(" ").parse()?;
    let Scopes::Only(words) = &scopes else { return Ok(scopes) };
    if words.is_empty() {
        bail!("--scope is empty; name a scope, or leave it out for everything that the user may do");
    }
    // A policy that is broken now is no reason to refuse what it may ask for later.
    let Ok(site) = policy::compile(&state.config) else { return Ok(scopes) };
    let known = site.scopes();
    if let Some(unknown) = words.iter().find(|word| !known.contains(&***word)) {
        let list: Vec<_> = known.iter().copied().collect();
        let hint = did_you_mean(unknown, known.iter().copied());
        bail!("no route asks for the scope {unknown:?}{hint}; the policies know {}", list.join(", "));
    }
    Ok(scopes)
}

/// When what is made now ends, in Unix seconds.
pub(super) fn end(life: Duration) -> Result<i64> {
    if life.0 < Time::from_secs(1) {
        bail!("--expires {life} would end before it could be used; write at least \"1s\"");
    }
    if life.0 > LONGEST {
        bail!("--expires {life} is longer than a hundred years; write less");
    }
    Ok(now().saturating_add_unsigned(life.0.as_secs()))
}
