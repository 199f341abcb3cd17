//! Tests of which lines a client may have written to the log.

use super::{super::line::tests::entry, *};
use crate::observe::Verdict;

/// The length of each line in these tests.
const LINE: usize = 500;
const SECOND: Duration = Duration::from_secs(1);

fn client(n: u32) -> IpAddr {
    IpAddr::from(n.to_be_bytes())
}

fn denied() -> Entry<'static> {
    Entry { decision: Verdict::Deny, code: Some("no_route"), status: 404, user: None, ..entry() }
}

fn denied_at(n: u32) -> Entry<'static> {
    Entry { client_ip: client(n), ..denied() }
}

fn budget(lines: u32) -> Budget {
    Budget::new(NonZeroU32::new(lines).unwrap(), None)
}

fn per_day(bytes: u64) -> Budget {
    Budget::new(NonZeroU32::MAX, NonZeroU64::new(bytes))
}

fn admit(budget: &mut Budget, entry: &Entry<'_>) -> bool {
    budget.admit(entry, || LINE)
}

fn admitted(budget: &mut Budget, count: u32, entry: &Entry<'_>) -> usize {
    (0..count).filter(|_| admit(budget, entry)).count()
}

fn turn(budget: &mut Budget, seconds: u32) -> Vec<OmissionSummary> {
    let mut said = Vec::new();
    budget.turn(budget.age + SECOND * seconds, |more| {
        said.push(more.clone());
        Some(LINE)
    });
    said
}

fn requests(said: &[OmissionSummary]) -> u64 {
    said.iter().map(|more| more.count).sum()
}

#[test]
fn requests_beyond_a_clients_budget_become_one_line_and_others_have_their_own_budget() {
    let mut budget = budget(3);
    assert_eq!(admitted(&mut budget, 1_000, &denied_at(1)), 3);
    assert!(admit(&mut budget, &denied_at(2)));
    let said = turn(&mut budget, 1);
    assert_eq!((said.len(), said[0].client, said[0].count, said[0].code), (1, Some(client(1)), 997, Some("no_route")));
    assert!(admit(&mut budget, &denied_at(1)), "the next second has a new budget");
    assert!(turn(&mut budget, 1).is_empty());
}

#[test]
fn a_summary_names_only_what_its_requests_have_in_common() {
    let mut budget = budget(1);
    for (code, n) in [("no_route", 1), ("no_route", 1), ("bad_path", 1)] {
        admit(&mut budget, &Entry { code: Some(code), ..denied_at(n) });
    }
    let said = turn(&mut budget, 1);
    assert_eq!((said[0].code, said[0].client, budget.denied.clients.len()), (None, Some(client(1)), 0));
    for n in [1, 1, 2] {
        admit(&mut budget, &Entry { client_ip: client(n), ..entry() });
    }
    let said = turn(&mut budget, 1);
    assert_eq!((said[0].client, said[0].user.as_deref(), said[0].count), (None, Some("ana"), 2));
}

#[test]
fn many_clients_together_fill_neither_log_nor_memory_and_leave_space_for_users() {
    let mut budget = budget(10);
    let lines = (0..100_000).filter(|n| admit(&mut budget, &denied_at(*n))).count();
    assert_eq!(lines, 50);
    assert!(budget.denied.clients.len() <= MAX_CLIENTS);
    assert!(admit(&mut budget, &Entry { client_ip: client(1), ..entry() }), "a user's line");
    let said = turn(&mut budget, 1);
    assert!(said.len() <= MAX_SUMMARIES + 2, "{}", said.len());
    assert_eq!(requests(&said), 100_000 - 50);
}

#[test]
fn each_payer_spends_only_its_own_budget() {
    let ben = || Entry { user: Some("ben"), ..entry() };
    let by_link = |id| Entry { link: Some(id), ..entry() };
    let anybody = || Entry { user: None, ..entry() };
    let all = [denied(), entry(), ben(), by_link("1"), by_link("2"), anybody()];
    for flood in &all {
        let mut budget = budget(3);
        assert_eq!(admitted(&mut budget, 100, flood), 3);
        let others = all.iter().filter(|other| other.owner() != flood.owner());
        assert_eq!(others.filter(|other| admit(&mut budget, other)).count(), all.len() - 1, "{flood:?}");
    }
}

#[test]
fn the_bytes_of_a_day_are_limited_for_each_client_and_for_all() {
    let mut budget = per_day(1_000_000);
    assert_eq!(admitted(&mut budget, 10_000, &denied()), 50, "half of 5% at once");
    assert_eq!(admitted(&mut budget, 10_000, &entry()), 100, "half of 10%");
    let said = turn(&mut budget, 1);
    assert_eq!(requests(&said), 20_000 - 150);
    let mut later = 0;
    for _ in 0..24 {
        later += admitted(&mut budget, 1_000, &entry());
        turn(&mut budget, 3_600);
    }
    assert!((94..=101).contains(&later), "{later} lines in a day after that");
}

#[test]
fn clients_with_few_lines_have_space_after_others_have_used_up_the_common_share() {
    let mut budget = per_day(10_000_000);
    let names: Vec<_> = (0..10).map(|n| format!("greedy{n}")).collect();
    let greedy: usize =
        names.iter().map(|name| admitted(&mut budget, 10_000, &Entry { user: Some(name), ..entry() })).sum();
    assert!((4_000..=5_000).contains(&greedy), "{greedy} lines of half of 50%");
    assert!(admit(&mut budget, &entry()), "a line of ana");
    for n in 0..1_000 {
        admitted(&mut budget, 100, &denied_at(n));
    }
    assert!(budget.denied.all.used <= 1_000_000 + LINE as u64, "{}", budget.denied.all.used);
}

#[test]
fn summaries_have_a_share_of_the_day_and_postpone_what_exceeds_it() {
    let mut budget = per_day(1_000_000);
    let mut lines = 0;
    let mut left_out = 0;
    for _ in 0..10 {
        for n in 0..150 {
            left_out += 20 - admitted(&mut budget, 20, &denied_at(n)) as u64;
        }
        let said = turn(&mut budget, 1);
        lines += said.len();
        left_out -= requests(&said);
    }
    assert!(lines <= 101 && budget.unsaid == left_out && left_out > 0, "{lines} lines, {left_out} unsaid");
    assert_eq!(requests(&turn(&mut budget, 86_400)), left_out);
}

#[test]
fn a_summary_without_space_in_the_queue_is_written_later() {
    let mut budget = budget(1);
    admitted(&mut budget, 8, &denied());
    budget.turn(SECOND, |_| None);
    assert_eq!(requests(&turn(&mut budget, 1)), 7);
}
