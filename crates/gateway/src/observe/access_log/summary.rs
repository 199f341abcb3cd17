//! A summary of lines that were omitted.

use std::net::IpAddr;

/// Why lines were omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Omission {
    /// The client exceeded its lines per second or its bytes per day.
    ClientBudget,
    /// The queue was full because the disk was too slow.
    QueueFull,
    /// The free space on the disk is below its reserve.
    DiskReserve,
}

/// A summary of omitted lines.
#[derive(Clone, Debug)]
pub(super) struct OmissionSummary {
    /// The client's network; None for several clients.
    pub(super) client: Option<IpAddr>,
    /// The user; None for no user or several.
    pub(super) user: Option<Box<str>>,
    pub(super) decision: Option<&'static str>,
    pub(super) code: Option<&'static str>,
    pub(super) status: u16,
    pub(super) count: u64,
    pub(super) why: Omission,
}

impl Omission {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClientBudget => "client_budget",
            Self::QueueFull => "queue_full",
            Self::DiskReserve => "disk_reserve",
        }
    }
}

impl OmissionSummary {
    /// Creates a summary of `count` requests of any kind.
    pub(super) const fn of_all(count: u64, why: Omission) -> Self {
        Self { client: None, user: None, decision: None, code: None, status: 0, count, why }
    }
}
