//! Pages end where they should, continue where the last one ended, and hold no other user's tasks.

use sallyport_core::statement::UserLimits;

use super::*;
use crate::tasks::order::{Output, Quality};

async fn with(tasks: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("worker.db")).unwrap();
    for (owner, url) in tasks {
        let url = format!("https://e.com/{url}");
        let task = Task::new(owner.parse().unwrap(), url, Quality::Best, Output::Audio(None));
        store.add(task, UserLimits::default()).await.unwrap();
    }
    (dir, store)
}

fn of(owner: &str, order: Order) -> Selection {
    Selection { owner: Some(owner.parse().unwrap()), order, ..Selection::default() }
}

const TWO: Bounds = Bounds { rows: 2, bytes: 1 << 20 };

async fn read_on(store: &Store, selection: &Selection, position: Option<Sequence>) -> (String, Option<Sequence>) {
    let write = |task: Task, text: &mut Vec<u8>| text.extend(task.url.bytes().skip("https://e.com/".len()));
    let page = store.page(selection.clone(), position, TWO, write).await.unwrap();
    (String::from_utf8(page.text).unwrap(), page.next)
}

#[tokio::test]
async fn pages_join_in_either_order_and_hold_one_owners_tasks() {
    let (_dir, store) = with(&[("ana", "1"), ("bob", "x"), ("ana", "2"), ("ana", "3")]).await;
    for (order, first, second) in [(Order::OldestFirst, "12", "3"), (Order::NewestFirst, "32", "1")] {
        let selection = of("ana", order);
        let (text, next) = read_on(&store, &selection, None).await;
        assert_eq!((&*text, next.is_some()), (first, true));
        assert_eq!(read_on(&store, &selection, next).await, (second.to_owned(), None));
    }
    let everybodys = Selection { order: Order::OldestFirst, ..Selection::default() };
    assert_eq!(read_on(&store, &everybodys, None).await.0, "1x");
}

#[tokio::test]
async fn a_filter_returns_every_match_and_nothing_else() {
    let (_dir, store) = with(&[("ana", "Cat"), ("ana", "dog"), ("ana", "CATS"), ("ana", "cat")]).await;
    let cats = Selection { text: "cat".into(), ..of("ana", Order::OldestFirst) };
    let (text, next) = read_on(&store, &cats, None).await;
    assert_eq!(text, "CatCATS");
    assert_eq!(read_on(&store, &cats, next).await, ("cat".to_owned(), None));
    let ended = Selection { states: vec![Status::Error], ..of("ana", Order::OldestFirst) };
    assert_eq!(read_on(&store, &ended, None).await, (String::new(), None));
}

#[tokio::test]
async fn totals_count_each_state_and_the_newest_have_a_place_before_them() {
    let (_dir, store) = with(&[("ana", "1"), ("ana", "2"), ("bob", "3")]).await;
    store.claim(9).await.unwrap();
    let totals = store.totals(Some("ana".parse().unwrap())).await.unwrap();
    let expected =
        [("pending", 1), ("downloading", 1), ("processing", 0), ("completed", 0), ("error", 0), ("cancelled", 0)];
    assert_eq!(totals, expected);
    let all = store.totals(None).await.unwrap();
    assert_eq!(all.iter().map(|(_, count)| count).sum::<u64>(), 3);
    let position = store.before_newest(None, 2).await.unwrap();
    assert_eq!(read_on(&store, &Selection::default(), position).await.0, "23");
    assert_eq!(store.before_newest(Some("ana".parse().unwrap()), 2).await.unwrap(), None);
}
