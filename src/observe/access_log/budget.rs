//! How many lines each client may have within a second, and what is said of those beyond.

use std::{collections::HashMap, mem, net::IpAddr, num::NonZeroU32};

use super::line::{Entry, More, Weight, Why};

/// Clients that are told apart within a second; all others share one budget.
const MAX_CLIENTS: usize = 10_000;
/// So many summaries are written in a second, those of the clients that had most to leave out; one line has the rest.
const MAX_SUMMARIES: usize = 100;
/// What nobody has shown a credential for may take so many clients' budgets in all.
const STRANGERS: u32 = 5;

/// The budgets of one second.
#[derive(Debug)]
pub(super) struct Budget {
    lines_per_client: NonZeroU32,
    clients: HashMap<IpAddr, Share>,
    others: Share,
    /// Lines that nobody has shown a credential for, of all clients.
    strangers: u32,
}

/// What one client has used, and what was left out of it.
#[derive(Debug, Default)]
struct Share {
    lines: u32,
    users: Option<LeftOut>,
    strangers: Option<LeftOut>,
}

/// Lines that were left out.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    count: u64,
    decision: &'static str,
    status: u16,
    /// None where they had different ones.
    code: Option<&'static str>,
}

impl Budget {
    pub(super) fn new(lines_per_client: NonZeroU32) -> Self {
        Self { lines_per_client, clients: HashMap::new(), others: Share::default(), strangers: 0 }
    }

    /// True where there is room for a line of `client`; otherwise it is counted.
    pub(super) fn admit(&mut self, client: IpAddr, entry: &Entry<'_>) -> bool {
        let room = match entry.weight() {
            Weight::User => true,
            Weight::Stranger => self.strangers < self.lines_per_client.get().saturating_mul(STRANGERS),
        };
        let limit = self.lines_per_client.get();
        let share = self.share(client);
        if room && share.lines < limit {
            share.lines += 1;
            self.strangers += u32::from(entry.weight() == Weight::Stranger);
            return true;
        }
        share.leave_out(entry);
        false
    }

    /// Begins the next second; returns what to say of the last one.
    pub(super) fn turn(&mut self) -> Vec<More> {
        self.strangers = 0;
        let others = mem::take(&mut self.others);
        let mut left_out: Vec<_> =
            self.clients.drain().flat_map(|(client, share)| share.summaries(Some(client))).collect();
        self.clients.shrink_to(MAX_CLIENTS / 10);
        left_out.sort_by_key(|more| std::cmp::Reverse(more.count));
        let rest: u64 = left_out.drain(left_out.len().min(MAX_SUMMARIES)..).map(|more| more.count).sum();
        left_out.extend(others.summaries(None));
        if rest > 0 {
            left_out.push(More::of_all(rest, Why::ClientBudget));
        }
        left_out
    }

    fn share(&mut self, client: IpAddr) -> &mut Share {
        if self.clients.len() < MAX_CLIENTS || self.clients.contains_key(&client) {
            self.clients.entry(client).or_default()
        } else {
            &mut self.others
        }
    }
}

impl Share {
    fn leave_out(&mut self, entry: &Entry<'_>) {
        let left_out = match entry.weight() {
            Weight::User => &mut self.users,
            Weight::Stranger => &mut self.strangers,
        };
        let (decision, status, code) = (entry.decision.name(), entry.status, entry.code);
        let left_out = left_out.get_or_insert(LeftOut { count: 0, decision, status, code });
        left_out.count += 1;
        left_out.code = left_out.code.filter(|known| Some(*known) == code);
    }

    fn summaries(self, client: Option<IpAddr>) -> impl Iterator<Item = More> {
        [self.users, self.strangers].into_iter().flatten().map(move |left_out| More {
            client,
            decision: Some(left_out.decision),
            code: left_out.code,
            status: left_out.status,
            count: left_out.count,
            why: Why::ClientBudget,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line::tests::entry, *};
    use crate::observe::metrics::Verdict;

    fn client(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn denied() -> Entry<'static> {
        Entry { decision: Verdict::Deny, code: Some("no_route"), status: 404, user: None, ..entry() }
    }

    fn budget(lines: u32) -> Budget {
        Budget::new(NonZeroU32::new(lines).unwrap())
    }

    #[test]
    fn what_is_beyond_a_clients_budget_is_one_line_and_others_have_their_own() {
        let mut budget = budget(3);
        let admitted = (0..1_000).filter(|_| budget.admit(client(1), &denied())).count();
        assert_eq!((admitted, budget.admit(client(2), &denied())), (3, true));
        let said = budget.turn();
        assert_eq!(
            (said.len(), said[0].client, said[0].count, said[0].code),
            (1, Some(client(1)), 997, Some("no_route"))
        );
        assert!(budget.admit(client(1), &denied()) && budget.turn().is_empty(), "the next second is another one");
    }

    #[test]
    fn different_reasons_are_not_said_to_be_alike() {
        let mut budget = budget(1);
        for code in ["no_route", "no_route", "bad_path"] {
            budget.admit(client(1), &Entry { code: Some(code), ..denied() });
        }
        assert_eq!((budget.turn()[0].code, budget.clients.len()), (None, 0));
    }

    #[test]
    fn many_clients_together_take_neither_the_log_nor_memory_and_leave_room_for_users() {
        let mut budget = budget(10);
        let lines = (0..100_000).filter(|n| budget.admit(client(*n), &denied())).count();
        assert_eq!(lines, 50);
        assert!(budget.clients.len() <= MAX_CLIENTS);
        assert!(budget.admit(client(1), &entry()), "a line of a user");
        let said = budget.turn();
        assert!(said.len() <= MAX_SUMMARIES + 2, "{}", said.len());
        assert_eq!(said.iter().map(|more| more.count).sum::<u64>(), 100_000 - 50);
    }
}
