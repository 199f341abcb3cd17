//! `sallyport gateway`, `sallyport worker` and `sallyport egress`: one role in the foreground.

use std::{future::Future, path::Path, sync::Arc, thread::available_parallelism};

use anyhow::{Context, Result};
use sallyport_core::{
    config,
    sockets::inherited::Sockets,
    statement::StatementKey,
    supervision::{Notification, OomPriority, shutdown::signalled},
};
use sallyport_gateway as gateway;
use sallyport_gateway::{observe, store::Secrets};
use sallyport_worker as worker;
use sallyport_worker::{Stage, egress};
use secrecy::ExposeSecret;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing::info;

use crate::openapi;

/// Runs the gateway until it receives a signal to stop.
pub(super) fn gateway(config: &Path) -> Result<()> {
    let config = config::load(config)?;
    observe::tracing::start(&config.log.level);
    let inheritance = gateway::Inheritance::claim(&config.data_dir)?;
    block_on(async { Ok(gateway::run(config, inheritance, signalled(), || Notification::Ready.tell()).await?) })
}

/// Runs the worker until it receives a signal to stop.
pub(super) fn worker(config: &Path) -> Result<()> {
    let config = config::load(config)?;
    observe::tracing::start(&config.log.level);
    OomPriority::Worker.declare();
    let key = StatementKey::new(Secrets::open(&config)?.worker()?.expose_secret().as_bytes());
    let sockets = Sockets::from_standard_input().context("cannot use the socket on standard input")?;
    let tell = |stage| match stage {
        Stage::Ready => Notification::Ready.tell(),
        Stage::Released => Notification::Released.tell(),
    };
    block_on(async {
        heed_hangups("the worker")?;
        Ok(worker::serve(Arc::new(config), key, openapi::json(), sockets, signalled(), tell).await?)
    })
}

/// Runs the egress guard until it receives a signal to stop.
pub(super) fn egress(config: &Path) -> Result<()> {
    let config = config::load(config)?;
    observe::tracing::start(&config.log.level);
    block_on(async {
        heed_hangups("the egress guard")?;
        Ok(egress::serve(&config, signalled(), || Notification::Ready.tell()).await?)
    })
}

/// Logs each SIGHUP, which would otherwise end the process: a role that reads its settings only at startup says so.
fn heed_hangups(role: &'static str) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            info!("ignoring SIGHUP: {role} reads its settings only at startup; restart it to apply changes");
        }
    });
    Ok(())
}

fn block_on(role: impl Future<Output = Result<()>>) -> Result<()> {
    // On a single processor, work stealing only adds cost.
    let alone = available_parallelism().is_ok_and(|n| n.get() == 1);
    let mut builder = if alone { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build().context("cannot start the async runtime")?.block_on(role)
}
