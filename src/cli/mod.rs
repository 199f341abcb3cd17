//! The command line: one file for each subcommand.

mod ban;
mod certificate;
mod check;
mod grant;
mod init;
mod key;
mod link;
mod output;
mod preflight;
mod role;
mod state;
mod token;
mod trust;
mod up;
mod user;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use sallyport_core::{
    files::os_error,
    supervision::detach::{DETACH, detach},
};
use sallyport_worker as worker;

/// Hidden subcommand that becomes another program and dies with its parent; its arguments are not for people and may start with dashes.
const CONFINE: &str = "confine";

/// A private video downloader and streaming server behind a hardened reverse proxy, which can also protect your other applications.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version)]
struct Cli {
    /// Accepts `--config` before the subcommand; each subcommand has the option itself.
    #[arg(id = "config", long = "config", value_name = "FILE", global = true, hide = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// First run: write a configuration, secrets and a certificate, and create an administrator and a first API key.
    Init(init::Init),
    /// Run gateway and worker together; both end with this process.
    Up(ConfigFile),
    /// Run the gateway in the foreground.
    Gateway(ConfigFile),
    /// Run the worker in the foreground.
    Worker(ConfigFile),
    /// Run the egress guard in the foreground, if the configuration separates it from the worker.
    Egress(ConfigFile),
    /// Check everything that a start would need, and report each problem with its place and its fix.
    Check(check::Check),
    /// Make this machine and its browsers trust the local certificate authority, or undo that.
    Trust(trust::Trust),
    /// Manage API keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Manage users.
    #[command(subcommand)]
    User(user::User),
    /// Manage client certificates.
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Manage signed links.
    #[command(subcommand)]
    Link(link::Link),
    /// Manage bans.
    #[command(subcommand)]
    Ban(ban::Ban),
    /// Issue tokens.
    #[command(subcommand)]
    Token(token::Token),
}

/// The `--config` option.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// Path of the configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

/// Runs the command line. The exit status is 0 when done, 1 when refused or failed, 2 on wrong usage.
#[must_use]
pub(crate) fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_ref().is_some_and(|first| first == CONFINE) {
        eprintln!("sallyport: {}", worker::confine(args.collect()));
        return ExitCode::FAILURE;
    }
    if first.as_ref().is_some_and(|first| first == DETACH) {
        return ended(detach(args).context("cannot start the new process"));
    }
    // On wrong usage, clap itself exits with status 2.
    let cli = Cli::parse();
    if let (Command::Init(_), Some(_)) = (&cli.command, &cli.config) {
        let what = "init takes --dir DIR, the folder for the configuration, instead of --config";
        Cli::command().error(ErrorKind::ArgumentConflict, what).exit();
    }
    ended(run(cli.command))
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sallyport: {}", os_error::plain(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Init(init) => init.run(),
        Command::Up(file) => up::run(&file.config),
        Command::Gateway(file) => role::gateway(&file.config),
        Command::Worker(file) => role::worker(&file.config),
        Command::Egress(file) => role::egress(&file.config),
        Command::Check(check) => check.run(),
        Command::Trust(trust) => trust.run(),
        Command::Key(key) => key.run(),
        Command::User(user) => user.run(),
        Command::Certificate(certificate) => certificate.run(),
        Command::Link(link) => link.run(),
        Command::Ban(ban) => ban.run(),
        Command::Token(token) => token.run(),
    }
}
