//! What every job needs: the configuration, the store and the services they share.

use std::sync::Arc;

use sallyport_core::{addresses::lookup::Lookups, config::WorkerConfig};

use super::announcer::Announcer;
use crate::{
    disk::Disks, events::Events, media::MediaFolder, sandbox::egress_tokens::EgressTokens, store::Store,
    tasks::owner::Owner, ytdlp::Readiness,
};

/// What every job needs.
pub(crate) struct JobContext {
    pub(crate) config: WorkerConfig,
    pub(crate) store: Store,
    pub(crate) media: MediaFolder,
    pub(crate) disks: Disks,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) lookups: Lookups<Owner>,
    pub(crate) egress_tokens: EgressTokens,
    pub(crate) events: Events,
    pub(crate) announcer: Announcer,
}
