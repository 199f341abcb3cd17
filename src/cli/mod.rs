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

use crate::{
    os_error,
    supervision::detach::{DETACH, detach},
    worker,
};

/// Becomes another program that dies with its parent; its arguments are not for people, and may start with dashes.
const CONFINE: &str = "confine";

/// A hardened gateway for self-hosted downloaders, and the download and stream worker behind it.
#[derive(Debug, Parser)]
#[command(name = "sallyport", version)]
struct Cli {
    /// For those who name the configuration first; each command has the option itself.
    #[arg(id = "config", long = "config", value_name = "FILE", global = true, hide = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// First run: writes a configuration, secrets and a certificate; makes an administrator and a first API key.
    Init(init::Init),
    /// Runs gateway and worker together; all of it ends with this process.
    Up(ConfigFile),
    /// Runs the gateway in the foreground.
    Gateway(ConfigFile),
    /// Runs the worker in the foreground.
    Worker(ConfigFile),
    /// Runs the egress guard in the foreground, where the configuration has it apart from the worker.
    Egress(ConfigFile),
    /// Reads everything as a start would, and says what is wrong, where, and how to mend it.
    Check(check::Check),
    /// Makes this machine and its browsers trust the local authority, or do so no more.
    Trust(trust::Trust),
    /// API keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Users.
    #[command(subcommand)]
    User(user::User),
    /// Client certificates.
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Signed links.
    #[command(subcommand)]
    Link(link::Link),
    /// Bans.
    #[command(subcommand)]
    Ban(ban::Ban),
    /// Tokens.
    #[command(subcommand)]
    Token(token::Token),
}

/// Which configuration.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

/// Runs the command line; 0 done, 1 refused or failed, 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_ref().is_some_and(|first| first == CONFINE) {
        eprintln!("sallyport: {}", worker::confine(args.collect()));
        return ExitCode::FAILURE;
    }
    if first.as_ref().is_some_and(|first| first == DETACH) {
        return ended(detach(args).context("cannot start the next process"));
    }
    // Clap itself ends the process with 2 on wrong usage.
    let cli = Cli::parse();
    if let (Command::Init(_), Some(_)) = (&cli.command, &cli.config) {
        let what = "init takes --dir DIR, the folder of the configuration, and no --config";
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
