//! The signal to stop, as every task of a process waits for it.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Ends once `stop` is true, or nobody is left who could make it so.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ends at SIGTERM or SIGINT.
pub async fn signalled() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
