//! The shared state that every request needs.

use std::sync::Arc;

use crate::{
    clients::admission::Admission,
    state::GatewayState,
    upstream::{Pool, WorkerWatch},
};

/// The shared state that every request needs.
pub(crate) struct Gateway {
    pub(crate) state: Arc<GatewayState>,
    pub(crate) pool: Pool,
    pub(crate) load: Admission,
    pub(crate) worker: Arc<WorkerWatch>,
}
