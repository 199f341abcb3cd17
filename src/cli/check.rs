//! `sallyport check`: what a start would find wrong.

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{
    output::Common,
    preflight::{self, Depth, Roles},
};

/// Reads and tries everything as a start would.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,
    /// What is to be started.
    #[arg(long, value_enum, default_value = "both")]
    role: Roles,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    faults: Vec<String>,
    warnings: Vec<String>,
}

impl Check {
    pub(super) fn run(&self) -> Result<()> {
        let found = preflight::inspect(&self.common.config, Depth::Everything, self.role);
        let report = Report { ok: found.faults.is_empty(), faults: found.faults, warnings: found.warnings };
        self.common.output.print(&report, words)?;
        match report.faults.len() {
            0 => Ok(()),
            1 => bail!("1 fault"),
            n => bail!("{n} faults"),
        }
    }
}

fn words(report: &Report) -> String {
    let warnings = report.warnings.iter().map(|warning| format!("warning: {warning}"));
    let ok = report.ok.then(|| "ok".to_owned());
    report.faults.iter().cloned().chain(warnings).chain(ok).collect::<Vec<_>>().join("\n")
}
