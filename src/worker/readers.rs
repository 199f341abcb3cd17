//! Which finished files are being read, so that nothing takes them away meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::task::TaskId;

/// How many read the file of each task.
#[derive(Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<HashMap<TaskId, usize>>>);

/// One reader, for as long as this lives.
pub(crate) struct Reading {
    readers: Readers,
    id: TaskId,
}

impl Readers {
    pub(crate) fn begin(&self, id: TaskId) -> Arc<Reading> {
        *self.counts().entry(id).or_default() += 1;
        Arc::new(Reading { readers: self.clone(), id })
    }

    pub(crate) fn any(&self, id: TaskId) -> bool {
        self.counts().contains_key(&id)
    }

    /// Counts are whole after a panic, too.
    fn counts(&self) -> MutexGuard<'_, HashMap<TaskId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reading {
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
