//! `sallyport gateway` and `sallyport worker`: one role in the foreground.

use std::{future::Future, path::Path, sync::Arc, thread::available_parallelism};

use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use tokio::runtime::Builder;

use crate::{config, gateway, observe, statement::StatementKey, stop::signalled, store::Secrets, worker};

/// Runs the gateway until a signal.
pub(super) fn gateway(config: &Path) -> Result<()> {
    let config = config::load(config)?;
    observe::tracing::start(&config.log.level);
    let inheritance = gateway::Inheritance::claim(&config.data_dir)?;
    block_on(async { Ok(gateway::run(config, inheritance, signalled(), notify_ready).await?) })
}

/// Runs the worker until a signal.
pub(super) fn worker(config: &Path) -> Result<()> {
    let config = config::load(config)?;
    observe::tracing::start(&config.log.level);
    let key = StatementKey::new(Secrets::open(&config)?.worker()?.expose_secret().as_bytes());
    block_on(async { Ok(worker::serve(Arc::new(config), key, signalled(), notify_ready).await?) })
}

fn block_on(role: impl Future<Output = Result<()>>) -> Result<()> {
    // On a single processor, work that could be stolen only costs more.
    let alone = available_parallelism().is_ok_and(|n| n.get() == 1);
    let mut builder = if alone { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build().context("the runtime cannot start")?.block_on(role)
}

fn notify_ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}
