//! Limits for each client, per second and per day, on the lines that it can cause, and summaries of the requests beyond them.
//!
//! Allowed and denied requests have separate budgets, so that no client can hide the former with the latter.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem,
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use sallyport_core::addresses::client_network;

use super::{
    allowance::Allowance,
    entry::{BudgetOwner, Entry},
    summary::{Omission, OmissionSummary},
};

/// Clients of a class that are distinguished; all others share one budget.
const MAX_CLIENTS: usize = 10_000;
/// Summaries per second, for the clients with the most omitted requests; one line covers the rest.
const MAX_SUMMARIES: usize = 100;
/// Lines per second of all clients without a credential of their own, as a multiple of one client's limit.
const OF_ALL_STRANGERS: u32 = 5;
/// Shares of a day's bytes, in hundredths. The three classes and the summaries together make 100.
const EACH_USER: u64 = 10;
const ALL_USERS: u64 = 50;
const EACH_STRANGER: u64 = 5;
const ALL_STRANGERS: u64 = 20;
const SUMMARIES: u64 = 10;

/// The budgets of all clients.
#[derive(Debug)]
pub(super) struct Budget {
    lines_per_client: u32,
    /// Allowed requests of users.
    users: ClientGroup,
    /// Other allowed requests: by link, or without a credential.
    visitors: ClientGroup,
    /// Denied requests.
    denied: ClientGroup,
    summaries: SharedAllowance,
    /// Requests that no summary has counted yet.
    unsaid: u64,
    /// How long the budget has existed, as of the last turn.
    age: Duration,
    hasher: RandomState,
}

/// A group of clients whose budget is independent of the other groups.
#[derive(Debug)]
struct ClientGroup {
    clients: HashMap<u64, Client>,
    others: Client,
    each: Allowance,
    all: SharedAllowance,
    max_lines: u32,
    /// Written in the current second.
    lines: u32,
}

/// A daily allowance of bytes that several clients share.
#[derive(Debug)]
struct SharedAllowance {
    allowance: Allowance,
    used: u64,
}

/// What one client has used, and which of its requests were omitted.
#[derive(Debug, Default)]
struct Client {
    /// Written in the current second.
    lines: u32,
    bytes: u64,
    left_out: Option<LeftOut>,
}

/// Requests without a line.
#[derive(Debug)]
struct LeftOut {
    count: u64,
    decision: &'static str,
    status: u16,
    /// None if the requests differ in this; likewise the next two.
    code: Option<&'static str>,
    client: Option<IpAddr>,
    user: Option<Box<str>>,
}

impl Budget {
    /// Creates the budgets. `per_day` is the log's maximum daily growth in bytes; None means no limit.
    pub(super) fn new(lines_per_client: NonZeroU32, per_day: Option<NonZeroU64>) -> Self {
        let share = |hundredths| Allowance::hundredths(per_day, hundredths);
        let lines_per_client = lines_per_client.get();
        let strangers_lines = lines_per_client.saturating_mul(OF_ALL_STRANGERS);
        let strangers = || ClientGroup::new(share(EACH_STRANGER), share(ALL_STRANGERS), strangers_lines);
        Self {
            lines_per_client,
            users: ClientGroup::new(share(EACH_USER), share(ALL_USERS), u32::MAX),
            visitors: strangers(),
            denied: strangers(),
            summaries: SharedAllowance::new(share(SUMMARIES)),
            unsaid: 0,
            age: Duration::ZERO,
            hasher: RandomState::new(),
        }
    }

    /// Calls `write`, which returns the length of the line, if the budget allows it. Otherwise counts the request and returns false.
    pub(super) fn admit(&mut self, entry: &Entry<'_>, write: impl FnOnce() -> usize) -> bool {
        let owner = entry.owner();
        let class = match owner {
            BudgetOwner::User(_) => &mut self.users,
            BudgetOwner::Link(_) | BudgetOwner::Visitor(_) => &mut self.visitors,
            BudgetOwner::Denied(_) => &mut self.denied,
        };
        class.admit(self.hasher.hash_one(owner), self.lines_per_client, entry, write)
    }

    /// Begins the next second, `age` after the budget was created. `say` writes a summary of the last second and returns its length, or None if
    /// there is no space; the requests are then part of a later summary.
    pub(super) fn turn(&mut self, age: Duration, mut say: impl FnMut(&OmissionSummary) -> Option<usize>) {
        let from = mem::replace(&mut self.age, age);
        self.summaries.regain(from, age);
        let classes = [&mut self.users, &mut self.visitors, &mut self.denied];
        let mut left_out: Vec<_> = classes.into_iter().flat_map(|class| class.turn(from, age)).collect();
        left_out.sort_by_key(|more| Reverse(more.count));
        for more in left_out.drain(..left_out.len().min(MAX_SUMMARIES)) {
            if !self.summaries.spend_on(|| say(&more)) {
                self.unsaid += more.count;
            }
        }
        self.unsaid += left_out.iter().map(|more| more.count).sum::<u64>();
        if self.unsaid > 0
            && self.summaries.spend_on(|| say(&OmissionSummary::of_all(self.unsaid, Omission::ClientBudget)))
        {
            self.unsaid = 0;
        }
    }
}

impl ClientGroup {
    fn new(each: Allowance, all: Allowance, max_lines: u32) -> Self {
        Self {
            clients: HashMap::new(),
            others: Client::default(),
            each,
            all: SharedAllowance::new(all),
            max_lines,
            lines: 0,
        }
    }

    /// A client may use at most as many bytes as remain for all others, so that clients with few lines still have space when those with many
    /// have used theirs up.
    fn admit(&mut self, key: u64, max_lines: u32, entry: &Entry<'_>, write: impl FnOnce() -> usize) -> bool {
        let most = self.each.most().min(self.all.left());
        let is_open = self.lines < self.max_lines;
        let client = if self.clients.len() < MAX_CLIENTS || self.clients.contains_key(&key) {
            self.clients.entry(key).or_default()
        } else {
            &mut self.others
        };
        if !is_open || client.lines >= max_lines || client.bytes >= most {
            client.leave_out(entry);
            return false;
        }
        let bytes = write() as u64;
        client.lines += 1;
        client.bytes = client.bytes.saturating_add(bytes);
        self.lines += 1;
        self.all.used = self.all.used.saturating_add(bytes);
        true
    }

    /// Begins the next second. Clients that have regained their whole allowance are forgotten.
    fn turn(&mut self, from: Duration, to: Duration) -> Vec<OmissionSummary> {
        self.lines = 0;
        self.all.regain(from, to);
        let back = self.each.regained(from, to);
        let all = self.clients.values_mut().chain([&mut self.others]);
        let left_out = all.filter_map(|client| client.turn(back)).collect();
        self.clients.retain(|_, client| client.bytes > 0);
        self.clients.shrink_to(MAX_CLIENTS / 10);
        left_out
    }
}

impl SharedAllowance {
    const fn new(allowance: Allowance) -> Self {
        Self { allowance, used: 0 }
    }

    fn left(&self) -> u64 {
        self.allowance.most().saturating_sub(self.used)
    }

    fn regain(&mut self, from: Duration, to: Duration) {
        self.used = self.used.saturating_sub(self.allowance.regained(from, to));
    }

    /// Returns false if nothing is left or nothing was written.
    fn spend_on(&mut self, write: impl FnOnce() -> Option<usize>) -> bool {
        let written = if self.left() > 0 { write() } else { None };
        self.used = self.used.saturating_add(written.unwrap_or(0) as u64);
        written.is_some()
    }
}

impl Client {
    fn turn(&mut self, back: u64) -> Option<OmissionSummary> {
        self.lines = 0;
        self.bytes = self.bytes.saturating_sub(back);
        self.left_out.take().map(OmissionSummary::from)
    }

    fn leave_out(&mut self, entry: &Entry<'_>) {
        let client = Some(client_network(entry.client_ip));
        let user = entry.user;
        let code = entry.code;
        let left_out = self.left_out.get_or_insert_with(|| LeftOut {
            count: 0,
            decision: entry.decision.name(),
            status: entry.status,
            code,
            client,
            user: user.map(Box::from),
        });
        left_out.count += 1;
        left_out.code = left_out.code.filter(|known| Some(*known) == code);
        left_out.client = left_out.client.filter(|known| Some(*known) == client);
        left_out.user = left_out.user.take().filter(|known| Some(&**known) == user);
    }
}

impl From<LeftOut> for OmissionSummary {
    fn from(left_out: LeftOut) -> Self {
        let LeftOut { count, decision, status, code, client, user } = left_out;
        Self { client, user, decision: Some(decision), code, status, count, why: Omission::ClientBudget }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
