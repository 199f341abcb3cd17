//! Starts the gateway, serves, and stops it without interrupting running requests.

use std::{future::Future, io, sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit, setrlimit};
use sallyport_core::{
    config::{Config, GatewayLimits},
    sockets::inherited::Sockets,
    supervision::{Supervisor, shutdown::stopped},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    certificates, control, control_server,
    error::GatewayError,
    hot_restart::{Handover, Inheritance, Starter},
    reload,
};
use crate::{
    clients::admission::Admission,
    connections::listeners::Listeners,
    edge::{Certificates, acme::Acme, tls},
    pages::admin::{self, Admin},
    requests::gateway::Gateway,
    state::GatewayState,
    upstream::{Pool, WorkerWatch},
};

/// How often unused connections to applications are closed and memory is checked.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Runs the gateway until `stop` completes or a successor has taken over, then until running requests have ended or the drain timeout has
/// passed. `ready` is called once every port is open, as inherited ports already are. After that, the predecessor, if any, is released.
pub async fn run(
    config: Config,
    inheritance: Inheritance,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), GatewayError> {
    tls::install_crypto();
    raise_descriptor_limit(&config.limits);
    let Inheritance { sockets, predecessor, supervisor } = inheritance;
    let running = Running::start(&Arc::new(config), sockets, supervisor)?;
    ready();
    if let Some(predecessor) = predecessor {
        predecessor.release();
    }
    running.until(stop).await;
    running.end().await;
    Ok(())
}

/// A running gateway.
struct Running {
    state: Arc<GatewayState>,
    front: Listeners,
    handover: Arc<Handover>,
    /// True once no more connections are accepted.
    stopping: watch::Sender<bool>,
    /// True once the last request has ended; until then, revocations must still be enforced.
    ending: watch::Sender<bool>,
    /// The background tasks.
    tasks: JoinSet<()>,
}

impl Running {
    fn start(config: &Arc<Config>, mut sockets: Sockets, supervisor: Option<Supervisor>) -> Result<Self, GatewayError> {
        // Before the files are read, so that no change is missed in between.
        let seen = reload::FilesSnapshot::of(config);
        let state = Arc::new(GatewayState::open(config)?);
        let (certificates, acme) = certificates::open(config)?;
        let certificates = Arc::new(certificates);
        let signals = Signals::listen()?;
        let nudge = signal(SignalKind::hangup())?;
        let stopping = watch::Sender::new(false);
        let ending = watch::Sender::new(false);
        let worker = Arc::new(WorkerWatch::default());
        let gateway = Arc::new(Gateway {
            state: Arc::clone(&state),
            pool: Pool::default(),
            load: Admission::default(),
            worker: Arc::clone(&worker),
        });
        let mut front = Listeners::new(Arc::clone(&gateway), &certificates, stopping.subscribe())?;
        let admin_socket = admin::Socket::open(&config.admin_listen, &mut sockets)?;
        let admin_handle = sockets.in_use();
        front.listen(config, &mut sockets)?;
        let starter = supervisor.map_or_else(|| Starter::Itself(config.file.clone()), Starter::Supervisor);
        let handover = Arc::new(Handover::new(sockets.in_use(), admin_handle, starter));
        sockets.all_taken()?;
        let admin = Admin {
            state: Arc::clone(&state),
            certificates: Arc::clone(&certificates),
            worker,
            stopping: stopping.subscribe(),
        };
        tokio::spawn(Arc::clone(&handover).until_retired(Arc::new(admin).serve(admin_socket)));
        let mut running = Self { state, front, handover, stopping, ending, tasks: JoinSet::new() };
        running.keep(gateway, seen, signals);
        running.keep_certificates(certificates, acme, nudge);
        info!(listen = ?config.listen, url = %config.public_url, "the gateway is ready");
        Ok(running)
    }

    /// Starts the background tasks, except those for certificates.
    fn keep(&mut self, gateway: Arc<Gateway>, seen: reload::FilesSnapshot, signals: Signals) {
        let Self { state, handover, stopping, ending, tasks, .. } = self;
        // Opened before this gateway reports that it is ready: the next successor must find this gateway and not its predecessor.
        let data_dir = state.rules.load().config.data_dir.clone();
        state.inherit(control::withdrawn(&data_dir));
        if let Some(server) = control_server::ControlServer::open(&data_dir) {
            tasks.spawn(control_server::serve(server, Arc::clone(state), Arc::clone(handover), ending.subscribe()));
        }
        tasks.spawn(reload::watch(Arc::clone(state), seen, signals.reload, stopping.subscribe()));
        tasks.spawn(Arc::clone(handover).watch(signals.succeed, stopping.subscribe()));
        tasks.spawn(Arc::clone(state).keep_house(ending.subscribe()));
        tasks.spawn(Arc::clone(&gateway.worker).watch(Arc::clone(state), stopping.subscribe()));
        tasks.spawn(sweep(gateway, ending.subscribe()));
    }

    fn keep_certificates(&mut self, certificates: Arc<Certificates>, acme: Option<Acme>, nudge: Signal) {
        self.tasks.spawn(certificates.watch(self.stopping.subscribe()));
        if let Some(acme) = acme {
            let state = Arc::clone(&self.state);
            let tell = move |outcome| state.metrics.acme(outcome);
            self.tasks.spawn(acme.keep(nudge, self.stopping.subscribe(), tell));
        }
    }

    async fn until(&self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.handover.retired() => {}
        }
    }

    async fn end(mut self) {
        let limit = self.state.rules.load().config.drain_timeout;
        info!("stopping; running requests have {limit:?} to finish");
        self.stopping.send_replace(true);
        self.handover.close();
        self.front.drain(limit).await;
        self.ending.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.state.write_bans().await;
    }
}

/// The signals that the gateway handles, apart from those that stop it.
struct Signals {
    reload: Signal,
    succeed: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { reload: signal(SignalKind::hangup())?, succeed: signal(SignalKind::user_defined2())? })
    }
}

/// Raises the limit of file descriptors: each connection needs one, and each request another one for its application.
fn raise_descriptor_limit(limits: &GatewayLimits) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let needed = (limits.max_connections + limits.max_requests + 256) as u64;
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        warn!(
            maximum,
            needed,
            "max_connections and max_requests may need more open files than the system allows; raise `ulimit -n`"
        );
    }
}

/// Closes connections to applications that have been idle too long, and checks the available memory.
async fn sweep(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    while timeout(SWEEP_EVERY, stopped(&mut stop)).await.is_err() {
        gateway.pool.sweep();
        if gateway.load.look_at_memory(gateway.state.rules.load().config.limits.max_memory) {
            warn!("low memory: rejecting new requests until more is available");
        }
    }
}
