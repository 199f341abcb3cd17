//! Compiles the rates of a route. A rate that a reload does not change keeps its counts.

use std::sync::Arc;

use super::compiler::Compiler;
use crate::{
    limits::{RateLimit, Tracker},
    policy::{route::Limit, wire},
};

impl Compiler<'_> {
    pub(super) fn limits(&self, route: &str, rates: &[wire::Limit]) -> Box<[Limit]> {
        let old = self.old.and_then(|app| app.all_routes.iter().find(|old| *old.name == *route));
        let old = old.map_or(&[][..], |route| &route.limits);
        let limit = |rate: &wire::Limit, old: Option<&Limit>| {
            let limit = RateLimit { rate: rate.rate, burst: rate.burst.unwrap_or(rate.rate.count) };
            let same = old.filter(|old| old.by == rate.by && old.tracker.is_of(limit, self.max_clients));
            let tracker = same.map(|old| Arc::clone(&old.tracker));
            Limit { by: rate.by, tracker: tracker.unwrap_or_else(|| Arc::new(Tracker::new(limit, self.max_clients))) }
        };
        rates.iter().enumerate().map(|(i, rate)| limit(rate, old.get(i))).collect()
    }
}
