use super::*;
use crate::statement::Limits;
use crate::worker::{
    order::{Output, Quality},
    playlist::{Extent, Part, Tally},
    store::{Cancelled, Next},
    task::Task,
};

async fn with_list() -> (tempfile::TempDir, Store, TaskId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("worker.db")).unwrap();
    let task = Task::new("ana".parse().unwrap(), "https://e.com/".into(), Quality::Best, Output::Audio(None));
    let list = Task { part: Part::List(Extent::Whole, Tally::default()), ..task };
    store.add(list.clone(), Limits::default()).await.unwrap();
    claim(&store).await;
    (dir, store, list.id)
}

async fn claim(store: &Store) -> TaskId {
    match store.claim(9).await.unwrap() {
        Next::Claimed(task) => task.id,
        other => unreachable!("{other:?}"),
    }
}

fn entries(count: u32) -> Vec<Entry> {
    let entry = |n| Entry { url: format!("https://e.com/{n}"), title: String::new(), item: None, fault: None };
    (0..count).map(entry).collect()
}

async fn expand(store: &Store, list: TaskId, count: u32) -> Vec<TaskId> {
    match store.expand(list, "L".into(), entries(count)).await.unwrap() {
        Expanded::Into(films) => films,
        other => unreachable!("{other:?}"),
    }
}

async fn state(store: &Store, id: TaskId) -> (Status, Part) {
    let task = store.get(id).await.unwrap().unwrap();
    (task.status, task.part)
}

#[tokio::test]
async fn a_list_counts_its_films_and_ends_with_the_last() {
    let (_dir, store, list) = with_list().await;
    let films = expand(&store, list, 2).await;
    assert_eq!(state(&store, list).await, (Status::Expanded, Part::List(Extent::Whole, Tally { total: 2, ended: 0 })));
    assert_eq!(store.settle(list).await.unwrap(), Settled::Unchanged);
    for (film, ended) in films.into_iter().zip(1..) {
        assert_eq!(claim(&store).await, film);
        store.fail(film, "gone".into()).await.unwrap();
        assert_eq!(store.settle(list).await.unwrap(), Settled::Changed);
        let (status, part) = state(&store, list).await;
        assert_eq!(part, Part::List(Extent::Whole, Tally { total: 2, ended }));
        assert_eq!(status == Status::Error, ended == 2);
    }
}

#[tokio::test]
async fn a_list_that_was_cancelled_while_it_was_read_gets_no_films() {
    let (_dir, store, list) = with_list().await;
    assert_eq!(store.cancel(list).await.unwrap(), Cancelled::Yes(vec![list]));
    assert_eq!(store.expand(list, "L".into(), entries(2)).await.unwrap(), Expanded::Gone);
    assert_eq!(store.ids().await.unwrap().len(), 1);
}

#[tokio::test]
async fn all_films_of_a_list_find_room_to_wait_or_none_does() {
    let (_dir, store, list) = with_list().await;
    let too_many = u32::try_from(MAX_PENDING_PER_USER).unwrap() + 1;
    assert_eq!(store.expand(list, "L".into(), entries(too_many)).await.unwrap(), Expanded::NoRoom);
    assert_eq!(store.ids().await.unwrap().len(), 1);
    assert_eq!(expand(&store, list, too_many - 1).await.len(), usize::try_from(MAX_PENDING_PER_USER).unwrap());
}

#[tokio::test]
async fn an_expanded_list_is_not_read_again_after_a_restart() {
    let (dir, store, list) = with_list().await;
    let films = expand(&store, list, 1).await;
    drop(store);
    let store = Store::open(&dir.path().join("worker.db")).unwrap();
    assert_eq!(state(&store, list).await.0, Status::Expanded);
    assert_eq!(claim(&store).await, films[0]);
}
