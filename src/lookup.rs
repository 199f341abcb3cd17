//! Name lookups through the system's resolver: bounded in all and for each client, for as long as the thread of each is busy.
//!
//! The system's resolver blocks a thread until the name server answers or the resolver gives up, which can take half a minute.
//! Giving up earlier does not free the thread. It is one of a pool that files and the database need as well, so a lookup keeps its
//! place until the thread is back.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// How long a lookup may take, its wait for a place included. Resolvers ask again after five seconds, since a packet may be lost;
/// nobody waits for a third try.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);
/// Lookups at a time, in all: a small part of the 512 threads that the pool has.
const MAX_LOOKUPS: usize = 64;
/// Lookups at a time for each client.
const MAX_LOOKUPS_PER_CLIENT: usize = 4;

/// Runs lookups; each client of kind `K`, such as a user or a job, has a share of its own.
#[derive(Debug)]
pub(crate) struct Lookups<K> {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// Why a name has no addresses.
#[derive(Debug, Error)]
pub(crate) enum LookupError {
    /// No answer came in time, or there was no place for the question.
    #[error("the name could not be looked up within {} seconds", LOOKUP_TIMEOUT.as_secs())]
    TooSlow,
    /// The resolver says so.
    #[error("the name is not known: {0}")]
    Unknown(io::Error),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
}

impl<K> Default for Lookups<K> {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_LOOKUPS)), shares: Mutex::default() }
    }
}

impl<K: Eq + Hash> Lookups<K> {
    /// Every address of `host`, at least one, in the resolver's order.
    ///
    /// # Errors
    /// When the name is not known, or the answer takes longer than [`LOOKUP_TIMEOUT`].
    pub(crate) async fn addresses(&self, client: K, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
        let host = host.to_owned();
        self.run(client, move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
    }

    async fn run(
        &self,
        client: K,
        resolve: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Result<Vec<SocketAddr>, LookupError> {
        let share = self.share(client);
        let found = timeout(LOOKUP_TIMEOUT, async {
            // The client's own place first: a client that has none left must not take one from the others.
            let places = (place(share).await, place(Arc::clone(&self.all)).await);
            let resolved = spawn_blocking(move || {
                let resolved = resolve();
                drop(places);
                resolved
            });
            resolved.await.map_err(io::Error::other)?
        });
        let found = found.await.map_err(|_| LookupError::TooSlow)?.map_err(LookupError::Unknown)?;
        if found.is_empty() { Err(LookupError::NoAddress) } else { Ok(found) }
    }

    /// A share is forgotten once none of its lookups is left.
    fn share(&self, client: K) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        Arc::clone(shares.entry(client).or_insert_with(|| Arc::new(Semaphore::new(MAX_LOOKUPS_PER_CLIENT))))
    }
}

/// None only where the semaphore is closed, which these never are.
async fn place(semaphore: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use tokio::{join, time::advance};

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as a resolver answers")]
    fn local() -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))])
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_keeps_its_place_until_its_thread_is_back_and_others_have_theirs() {
        let lookups = Lookups::default();
        let (release, stuck): (Vec<_>, Vec<_>) = (0..MAX_LOOKUPS_PER_CLIENT).map(|_| mpsc::channel::<()>()).unzip();
        let hanging = join_all(stuck.into_iter().map(|silent| {
            lookups.run("eve", move || {
                silent.recv().ok();
                local()
            })
        }));
        let (given_up, ()) = join!(hanging, advance(LOOKUP_TIMEOUT));
        assert!(given_up.iter().all(|result| matches!(result, Err(LookupError::TooSlow))));
        assert_eq!(lookups.run("ana", local).await.unwrap().len(), 1);
        let (eve, ()) = join!(lookups.run("eve", local), advance(LOOKUP_TIMEOUT));
        assert!(matches!(eve, Err(LookupError::TooSlow)), "her threads are still busy");
        drop(release);
        assert_eq!(lookups.run("eve", local).await.unwrap().len(), 1);
        let all = lookups.all.acquire_many(MAX_LOOKUPS.try_into().unwrap()).await;
        assert!(all.is_ok(), "every thread comes back");
    }

    #[tokio::test]
    async fn only_clients_with_a_lookup_under_way_are_remembered() {
        let lookups = Lookups::default();
        for client in 0..100 {
            assert_eq!(lookups.run(client, local).await.unwrap().len(), 1);
        }
        assert!(lookups.shares.lock().unwrap().len() <= 1);
        assert!(matches!(lookups.run(0, || Ok(Vec::new())).await, Err(LookupError::NoAddress)));
    }
}
