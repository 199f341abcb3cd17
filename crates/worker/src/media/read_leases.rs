//! Tracks which finished files are being read, so that they are not removed in the meantime.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use crate::tasks::id::TaskId;

/// The number of readers of each task's file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadLeases(Arc<Mutex<HashMap<TaskId, usize>>>);

/// One reader; it counts until this is dropped.
pub(crate) struct ReadLease {
    readers: ReadLeases,
    id: TaskId,
}

impl ReadLeases {
    pub(crate) fn begin(&self, id: TaskId) -> Arc<ReadLease> {
        *self.counts().entry(id).or_default() += 1;
        Arc::new(ReadLease { readers: self.clone(), id })
    }

    pub(crate) fn any(&self, id: TaskId) -> bool {
        self.counts().contains_key(&id)
    }

    /// Ignores poisoning: the counts are consistent even after a panic.
    fn counts(&self) -> MutexGuard<'_, HashMap<TaskId, usize>> {
        self.0.lock()
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        let mut counts = self.readers.counts();
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}
