//! Name lookups through the system's resolver, limited in total and per client for as long as each occupies a thread.
//!
//! The system's resolver blocks a thread until the name server answers or the resolver times out, which can take half a minute. A caller that
//! stops waiting does not free the thread. Files and the database need the same thread pool, so a lookup holds its slot until the thread is
//! free again.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

/// Time limit of a lookup, including the wait for a slot. Resolvers retry after 5 s, since a packet may be lost; the limit leaves no time for a third
/// attempt.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);
/// Concurrent lookups in total: a small part of the 512 threads of the pool.
const MAX_LOOKUPS: usize = 64;
/// Concurrent lookups for each client.
const MAX_LOOKUPS_PER_CLIENT: usize = 4;

/// Runs lookups; each client of type `K`, such as a user or a job, has its own limit.
#[derive(Debug)]
pub struct Lookups<K> {
    all: Arc<Semaphore>,
    shares: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// Why a lookup returned no addresses.
#[derive(Debug, Error)]
pub enum LookupError {
    /// No answer arrived in time, or no slot was free.
    #[error("the name lookup timed out after {} seconds", LOOKUP_TIMEOUT.as_secs())]
    TooSlow,
    /// The resolver reported an error.
    #[error("the name cannot be resolved: {0}")]
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
    /// Returns every address of `host`, at least one, in the resolver's order.
    ///
    /// # Errors
    /// Fails if the name cannot be resolved or the answer takes longer than [`LOOKUP_TIMEOUT`].
    pub async fn addresses(&self, client: K, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
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
            // The client's own slot first: a client that has none left must not take one from the others.
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

    /// Returns the client's share. A share is forgotten once it has no lookups left.
    fn share(&self, client: K) -> Arc<Semaphore> {
        let mut shares = self.shares.lock();
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        Arc::clone(shares.entry(client).or_insert_with(|| Arc::new(Semaphore::new(MAX_LOOKUPS_PER_CLIENT))))
    }
}

/// Returns None only if the semaphore is closed, which never happens here.
async fn place(semaphore: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::future::join_all;
    use tokio::{join, time::advance};

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "has the signature of a resolver")]
    fn local() -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 80))])
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_holds_its_slot_until_its_thread_is_free_and_other_clients_have_theirs() {
        let lookups = Lookups::default();
        let (release, stuck): (Vec<_>, Vec<_>) = (0..MAX_LOOKUPS_PER_CLIENT).map(|_| mpsc::channel::<()>()).unzip();
        let hanging = join_all(stuck.into_iter().map(|silent| {
            lookups.run("eve", move || {
                let _ = silent.recv();
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
    async fn only_clients_with_a_running_lookup_are_remembered() {
        let lookups = Lookups::default();
        for client in 0..100 {
            assert_eq!(lookups.run(client, local).await.unwrap().len(), 1);
        }
        assert!(lookups.shares.lock().len() <= 1);
        assert!(matches!(lookups.run(0, || Ok(Vec::new())).await, Err(LookupError::NoAddress)));
    }
}
