//! The `sallyport` program.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use sallyport::{config, statement::StatementKey, worker};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    match command.to_str() {
        Some("confine") => {
            eprintln!("confine: {}", worker::confine(args.collect()));
            ExitCode::FAILURE
        }
        Some("worker") => ended(run_worker(&args.collect::<Vec<_>>())),
        _ => ExitCode::from(2),
    }
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_worker(args: &[OsString]) -> anyhow::Result<()> {
    let file = match args {
        [flag, file] if flag == "--config" => PathBuf::from(file),
        _ => PathBuf::from("config.toml"),
    };
    let config = config::load(&file)?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_level)?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let key = read_key(&config.secrets_dir().join("worker.key"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        Ok(worker::serve(Arc::new(config), key, shutdown).await?)
    })
}

fn read_key(path: &Path) -> anyhow::Result<StatementKey> {
    Ok(StatementKey::new(std::fs::read(path)?.trim_ascii()))
}
