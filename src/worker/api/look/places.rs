//! How many looks run at a time: in all, and of one user, so that he leaves places for others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::LookError;
use crate::username::UserName;

/// Each is one yt-dlp, and where a site needs it one JavaScript runtime.
const AT_A_TIME: usize = 4;
const AT_A_TIME_PER_USER: usize = 2;

/// How long one waits for a place.
const PATIENCE: Duration = Duration::from_secs(3);

/// The places.
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// Of each who has one or waits for one.
    users: Mutex<HashMap<UserName, Weak<Semaphore>>>,
}

/// A place; free again when it is dropped.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_A_TIME)), users: Mutex::default() }
    }
}

impl Places {
    /// Waits for a place of this user's, though not for long.
    pub(super) async fn take(&self, user: &UserName) -> Result<Place, LookError> {
        match timeout(PATIENCE, self.acquire(user)).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(LookError::Busy),
        }
    }

    /// His own first: who has all of his does not stand in the way of others while he waits.
    async fn acquire(&self, user: &UserName) -> Result<Place, AcquireError> {
        let own = self.of(user).acquire_owned().await?;
        let of_all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Place { _own: own, _of_all: of_all })
    }

    fn of(&self, user: &UserName) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, places| places.strong_count() > 0);
        let known = users.get(user).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let places = Arc::new(Semaphore::new(AT_A_TIME_PER_USER));
            users.insert(user.clone(), Arc::downgrade(&places));
            places
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_has_so_many_places_and_leaves_the_rest_to_others() {
        let places = Places::default();
        let take = async |user: &str| places.take(&user.parse().unwrap()).await;
        let mut anas = vec![take("ana").await.unwrap(), take("ana").await.unwrap()];
        assert!(matches!(take("ana").await, Err(LookError::Busy)));
        let bobs = [take("bob").await.unwrap(), take("bob").await.unwrap()];
        assert!(matches!(take("carl").await, Err(LookError::Busy)), "all are taken");
        anas.pop();
        assert!(take("ana").await.is_ok());
        drop((anas, bobs));
        assert!(take("carl").await.is_ok());
        assert_eq!(places.users.lock().unwrap().len(), 1, "nobody is remembered who has none");
    }
}
