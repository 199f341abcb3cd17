//! `sallyport check`: finds what would make a start fail.

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{
    output::Common,
    preflight::{self, Depth, Roles},
};

/// Arguments of `sallyport check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,
    /// Role to check for.
    #[arg(long, value_enum, default_value = "both")]
    role: Roles,
}

/// The result of the check.
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
            1 => bail!("found 1 error"),
            n => bail!("found {n} errors"),
        }
    }
}

fn words(report: &Report) -> String {
    let warnings = report.warnings.iter().map(|warning| format!("warning: {warning}"));
    let ok = report.ok.then(|| "ok".to_owned());
    report.faults.iter().cloned().chain(warnings).chain(ok).collect::<Vec<_>>().join("\n")
}
