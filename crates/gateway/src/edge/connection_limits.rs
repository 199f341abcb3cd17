//! Connection limits, total and per client, as guards that release their slot on drop.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use sallyport_core::addresses::client_network;
use tokio::task::AbortHandle;

/// The slots of all listeners together.
#[derive(Debug)]
pub(crate) struct Slots {
    max: usize,
    max_per_client: usize,
    taken: Mutex<SlotTable>,
}

/// One connection's slot. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    activity: Arc<Activity>,
}

/// Counts a connection's running requests. When room is needed, a connection without any is closed first.
#[derive(Debug, Default)]
pub(crate) struct Activity(AtomicUsize);

/// A guard for a running request.
#[derive(Debug)]
pub(crate) struct RunningRequest<'a>(&'a Activity);

/// A handle to a slot for the task that serves its connection.
#[derive(Clone, Debug)]
pub(crate) struct SlotHandle {
    slots: Arc<Slots>,
    id: u64,
    activity: Arc<Activity>,
}

/// Which limit applies to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerLimit {
    /// The limit for each client.
    PerClient,
    /// Only the total limit: this peer carries connections of many clients.
    TotalOnly,
    /// No connection is allowed: this client is banned.
    Refuse,
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    /// All slots by age, the oldest first.
    all: BTreeMap<u64, Holder>,
    /// Slots by client (an IPv4 address or an IPv6 /64), the oldest first.
    clients: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Holder {
    client: IpAddr,
    activity: Arc<Activity>,
    task: Option<AbortHandle>,
}

impl Slots {
    /// Creates `max` slots in total, of which one client may have `max_per_client`.
    #[must_use]
    pub(crate) fn new(max: usize, max_per_client: usize) -> Self {
        Self { max, max_per_client, taken: Mutex::default() }
    }

    /// Returns a slot for a new connection. At a limit, the oldest connection without a request is closed: one of the same client if that client
    /// is at its limit, otherwise one of any client. Returns `None` if every one has a running request, or if the client is banned.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr, limit: PeerLimit) -> Option<Slot> {
        let client = client_network(peer);
        let activity = Arc::new(Activity::default());
        let mut taken = self.lock();
        if !self.has_room(&mut taken, client, limit) || (taken.all.len() >= self.max && !taken.evict_any()) {
            return None;
        }
        let id = taken.insert(client, &activity);
        Some(Slot { slots: Arc::clone(self), id, activity })
    }

    /// Returns true if the client may have another slot, after closing its oldest connection without a request if necessary.
    fn has_room(&self, taken: &mut SlotTable, client: IpAddr, limit: PeerLimit) -> bool {
        let own = taken.clients.get(&client).map_or(0, BTreeSet::len);
        match limit {
            PeerLimit::Refuse => false,
            PeerLimit::TotalOnly => true,
            PeerLimit::PerClient => own < self.max_per_client || taken.evict_of(client),
        }
    }

    /// Sets the task that serves a slot, so that the slot can be reclaimed.
    pub(crate) fn bind(&self, id: u64, task: AbortHandle) {
        match self.lock().all.get_mut(&id) {
            Some(holder) => holder.task = Some(task),
            // The slot was reclaimed or released in the meantime.
            None => task.abort(),
        }
    }

    /// Closes an idle connection when the system has no resources left for another one.
    pub(crate) fn evict(&self) -> bool {
        self.lock().evict_any()
    }

    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        self.taken.lock()
    }
}

impl Slot {
    /// Returns the id for [`Slots::bind`].
    #[must_use]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns a handle for the task that serves its connection.
    #[must_use]
    pub(crate) fn handle(&self) -> SlotHandle {
        SlotHandle { slots: Arc::clone(&self.slots), id: self.id, activity: Arc::clone(&self.activity) }
    }
}

impl SlotHandle {
    /// Returns the counter of the connection's requests.
    #[must_use]
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Reassigns the connection to `peer`, the client behind the proxy that it was counted for at first. Returns false if that client is at its
    /// limit or banned.
    #[must_use]
    pub(crate) fn assign(&self, peer: IpAddr, limit: PeerLimit) -> bool {
        let client = client_network(peer);
        let mut taken = self.slots.lock();
        self.slots.has_room(&mut taken, client, limit) && taken.assign(self.id, client)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().remove(self.id);
    }
}

impl Activity {
    /// Counts a request until the guard is dropped.
    #[must_use]
    pub(crate) fn begin(&self) -> RunningRequest<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        RunningRequest(self)
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for RunningRequest<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SlotTable {
    fn insert(&mut self, client: IpAddr, activity: &Arc<Activity>) -> u64 {
        self.next += 1;
        self.all.insert(self.next, Holder { client, activity: Arc::clone(activity), task: None });
        self.clients.entry(client).or_default().insert(self.next);
        self.next
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.all.remove(&id)?;
        self.take_from(holder.client, id);
        Some(holder)
    }

    /// Returns false if the slot was reclaimed in the meantime.
    fn assign(&mut self, id: u64, client: IpAddr) -> bool {
        let Some(holder) = self.all.get_mut(&id) else { return false };
        let before = std::mem::replace(&mut holder.client, client);
        self.take_from(before, id);
        self.clients.entry(client).or_default().insert(id);
        true
    }

    fn take_from(&mut self, client: IpAddr, id: u64) {
        if let Some(own) = self.clients.get_mut(&client) {
            own.remove(&id);
            if own.is_empty() {
                self.clients.remove(&client);
            }
        }
    }

    fn evict_of(&mut self, client: IpAddr) -> bool {
        let own = self.clients.get(&client).into_iter().flatten();
        let idle = own.copied().find(|id| self.all.get(id).is_some_and(|h| h.activity.is_idle()));
        self.cut(idle)
    }

    fn evict_any(&mut self) -> bool {
        let idle = self.all.iter().find(|(_, holder)| holder.activity.is_idle()).map(|(id, _)| *id);
        self.cut(idle)
    }

    fn cut(&mut self, id: Option<u64>) -> bool {
        let Some(holder) = id.and_then(|id| self.remove(id)) else { return false };
        if let Some(task) = holder.task {
            task.abort();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_is_released_on_drop() {
        let slots = Arc::new(Slots::new(10, 2));
        let one = slots.admit(ip("192.0.2.1"), PeerLimit::PerClient).unwrap();
        let two = slots.admit(ip("192.0.2.1"), PeerLimit::PerClient).unwrap();
        assert_eq!(slots.lock().all.len(), 2);
        drop((one, two));
        assert!(slots.lock().all.is_empty() && slots.lock().clients.is_empty());
    }

    #[test]
    fn a_banned_client_gets_no_slot_and_takes_none_from_others() {
        let slots = Arc::new(Slots::new(1, 1));
        let _held = slots.admit(ip("192.0.2.1"), PeerLimit::PerClient).unwrap();
        assert!(slots.admit(ip("192.0.2.2"), PeerLimit::Refuse).is_none());
        assert_eq!(slots.lock().all.len(), 1);
    }

    #[tokio::test]
    async fn a_client_at_its_limit_loses_its_oldest_connection_without_a_request() {
        let slots = Arc::new(Slots::new(10, 2));
        let serve = |slot: Slot| {
            let id = slot.id();
            let task = tokio::spawn(async move {
                let _slot = slot;
                std::future::pending::<()>().await;
            });
            slots.bind(id, task.abort_handle());
            task
        };
        let busy = slots.admit(ip("2001:db8::1"), PeerLimit::PerClient).unwrap();
        let activity = busy.handle().activity();
        let request = activity.begin();
        let busy = serve(busy);
        let idle = serve(slots.admit(ip("2001:db8::2"), PeerLimit::PerClient).unwrap());
        let newcomer = slots.admit(ip("2001:db8::3"), PeerLimit::PerClient).unwrap();
        assert!(idle.await.unwrap_err().is_cancelled());
        assert!(!busy.is_finished());
        let newer = newcomer.handle().activity();
        let another = newer.begin();
        assert!(slots.admit(ip("2001:db8::4"), PeerLimit::PerClient).is_none(), "both have a running request");
        assert!(slots.admit(ip("2001:db8:0:1::4"), PeerLimit::PerClient).is_some(), "another network");
        assert!(slots.admit(ip("2001:db8::4"), PeerLimit::TotalOnly).is_some());
        drop((another, request));
        assert!(slots.admit(ip("2001:db8::4"), PeerLimit::PerClient).is_some());
    }

    #[test]
    fn a_connection_behind_a_proxy_is_counted_as_its_clients() {
        let slots = Arc::new(Slots::new(10, 1));
        let [one, two, three] = [(); 3].map(|()| slots.admit(ip("10.0.0.1"), PeerLimit::TotalOnly).unwrap());
        let activity = one.handle().activity();
        let client = ip("192.0.2.1");
        let request = activity.begin();
        assert!(one.handle().assign(client, PeerLimit::PerClient));
        assert!(!two.handle().assign(client, PeerLimit::PerClient), "its other connection has a running request");
        drop(request);
        assert!(two.handle().assign(client, PeerLimit::PerClient), "in place of the first");
        assert!(three.handle().assign(ip("192.0.2.2"), PeerLimit::PerClient), "another client");
        assert_eq!(slots.lock().all.len(), 2);
        drop((one, two, three));
        assert!(slots.lock().all.is_empty() && slots.lock().clients.is_empty());
    }

    #[test]
    fn when_all_slots_are_taken_the_oldest_idle_connection_is_closed() {
        let slots = Arc::new(Slots::new(2, 2));
        let kept = slots.admit(ip("192.0.2.1"), PeerLimit::PerClient).unwrap();
        let activity = kept.handle().activity();
        let _request = activity.begin();
        let _gone = slots.admit(ip("192.0.2.2"), PeerLimit::PerClient).unwrap();
        let third = slots.admit(ip("192.0.2.3"), PeerLimit::PerClient).unwrap();
        assert_eq!(slots.lock().all.keys().copied().collect::<Vec<_>>(), [kept.id(), third.id()]);
    }
}
