//! Playlists are counted, cancelled, bounded, and found again after a restart.

use sallyport_core::statement::UserLimits;

use super::*;
use crate::{
    store::{CancelResult, ClaimResult, tasks::MAX_PENDING_PER_USER},
    tasks::{
        order::{Output, Quality},
        playlist::{PlaylistExtent, PlaylistProgress, PlaylistRole},
        task::Task,
    },
};

async fn with_list() -> (tempfile::TempDir, Store, TaskId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("worker.db")).unwrap();
    store.add(list_of("ana"), UserLimits::default()).await.unwrap();
    let list = claim(&store).await;
    (dir, store, list)
}

fn list_of(owner: &str) -> Task {
    let task = Task::new(owner.parse().unwrap(), "https://e.com/".into(), Quality::Best, Output::Audio(None));
    Task { playlist_role: PlaylistRole::List(PlaylistExtent::Whole, PlaylistProgress::default()), ..task }
}

async fn claim(store: &Store) -> TaskId {
    match store.claim(9).await.unwrap() {
        ClaimResult::Claimed(task) => task.id,
        other => unreachable!("{other:?}"),
    }
}

fn entries(count: u32) -> Vec<PlaylistEntry> {
    let entry = |n| PlaylistEntry { url: format!("https://e.com/{n}"), title: String::new(), item: None, fault: None };
    (0..count).map(entry).collect()
}

async fn expand(store: &Store, list: TaskId, count: u32) -> Vec<TaskId> {
    match store.expand(list, "L".into(), entries(count)).await.unwrap() {
        ExpandResult::Into(videos) => videos,
        other => unreachable!("{other:?}"),
    }
}

async fn state(store: &Store, id: TaskId) -> (Status, PlaylistRole) {
    let task = store.get(id).await.unwrap().unwrap();
    (task.status, task.playlist_role)
}

#[tokio::test]
async fn a_playlist_counts_its_videos_and_ends_with_the_last() {
    let (_dir, store, list) = with_list().await;
    let videos = expand(&store, list, 2).await;
    assert_eq!(
        state(&store, list).await,
        (Status::Expanded, PlaylistRole::List(PlaylistExtent::Whole, PlaylistProgress { total: 2, ended: 0 }))
    );
    assert_eq!(store.settle(list).await.unwrap(), SettleResult::Unchanged);
    for (video, ended) in videos.into_iter().zip(1..) {
        assert_eq!(claim(&store).await, video);
        store.fail(video, "gone".into()).await.unwrap();
        assert_eq!(store.settle(list).await.unwrap(), SettleResult::Changed);
        let (status, playlist_role) = state(&store, list).await;
        assert_eq!(playlist_role, PlaylistRole::List(PlaylistExtent::Whole, PlaylistProgress { total: 2, ended }));
        assert_eq!(status == Status::Error, ended == 2);
    }
}

#[tokio::test]
async fn a_playlist_that_a_kill_left_without_videos_is_removed_at_the_next_start() {
    let (_dir, store, list) = with_list().await;
    let videos = expand(&store, list, 1).await;
    assert_eq!(store.unsettled().await.unwrap(), [list]);
    store.cancel(list).await.unwrap();
    assert_eq!(store.unsettled().await.unwrap(), []);
    store.begin_removal(videos[0]).await.unwrap();
    store.forget(videos[0]).await.unwrap();
    assert_eq!(store.unsettled().await.unwrap(), [list]);
    assert_eq!(store.settle(list).await.unwrap(), SettleResult::Gone);
}

#[tokio::test]
async fn a_playlist_that_is_cancelled_while_it_is_read_gets_no_videos() {
    let (_dir, store, list) = with_list().await;
    assert_eq!(store.cancel(list).await.unwrap(), CancelResult::Yes { all: vec![list], new: vec![list] });
    assert_eq!(store.expand(list, "L".into(), entries(2)).await.unwrap(), ExpandResult::Gone);
    assert_eq!(store.ids().await.unwrap().len(), 1);
}

#[tokio::test]
async fn either_all_videos_of_a_playlist_fit_into_the_queue_or_none_is_added() {
    let (_dir, store, list) = with_list().await;
    let too_many = u32::try_from(MAX_PENDING_PER_USER).unwrap() + 1;
    assert_eq!(store.expand(list, "L".into(), entries(too_many)).await.unwrap(), ExpandResult::NoRoom);
    assert_eq!(store.ids().await.unwrap().len(), 1);
    assert_eq!(expand(&store, list, too_many - 1).await.len(), usize::try_from(MAX_PENDING_PER_USER).unwrap());
}

#[tokio::test]
async fn an_expanded_playlist_is_not_read_again_after_a_restart() {
    let (dir, store, list) = with_list().await;
    let videos = expand(&store, list, 1).await;
    drop(store);
    let store = Store::open(&dir.path().join("worker.db")).unwrap();
    assert_eq!(state(&store, list).await.0, Status::Expanded);
    assert_eq!(claim(&store).await, videos[0]);
}

#[tokio::test]
async fn the_limit_on_a_users_tasks_includes_ended_ones() {
    let (_dir, store, mut list) = with_list().await;
    let faulty = || {
        entries(MAX_PENDING_PER_USER.try_into().unwrap())
            .into_iter()
            .map(|entry| PlaylistEntry { fault: Some("no".into()), ..entry })
    };
    while let ExpandResult::Into(_) = store.expand(list, "L".into(), faulty().collect()).await.unwrap() {
        list = match store.add(list_of("ana"), UserLimits::default()).await {
            Ok(()) => claim(&store).await,
            Err(error) => unreachable!("{error}"),
        };
    }
    let all = store.ids().await.unwrap().len();
    assert!((4_500..=5_000).contains(&all), "{all}");
    let rest = store.expand(list, "L".into(), faulty().take(5_000 - all).collect()).await.unwrap();
    assert!(matches!(rest, ExpandResult::Into(_)));
    assert!(matches!(store.add(list_of("ana"), UserLimits::default()).await, Err(StoreError::ListFull)));
    store.add(list_of("bob"), UserLimits::default()).await.unwrap();
}

#[tokio::test]
async fn users_who_fill_the_queue_leave_a_few_places_to_every_other_user() {
    let (_dir, store, list) = with_list().await;
    expand(&store, list, 500).await;
    store.add(list_of("bob"), UserLimits::default()).await.unwrap();
    let bobs = claim(&store).await;
    assert_eq!(state(&store, bobs).await.0, Status::Downloading);
    expand(&store, bobs, 500).await;
    assert!(matches!(store.add(list_of("ana"), UserLimits::default()).await, Err(StoreError::QueueFull)));
    for _ in 0..20 {
        store.add(list_of("eve"), UserLimits::default()).await.unwrap();
    }
    assert!(matches!(store.add(list_of("eve"), UserLimits::default()).await, Err(StoreError::QueueFull)));
}
