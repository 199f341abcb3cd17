//! What is refused before there is a request to judge.

use crate::{
    message::HeadFault,
    policy::{Denial, Reason, Site},
};

/// Why no request was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// It breaks the grammar.
    Fault(HeadFault),
    /// It took too long.
    TooSlow,
}

impl From<HeadFault> for Refusal {
    fn from(fault: HeadFault) -> Self {
        Self::Fault(fault)
    }
}

impl Refusal {
    /// The answer to it, of a site that nobody can tell the application of.
    pub(super) fn denial(self, site: &Site) -> Denial {
        Denial { detail: self.detail(), style: site.common_style(), ..Denial::bare(self.reason()) }
    }

    pub(super) const fn reason(self) -> Reason {
        match self {
            Self::Fault(HeadFault::FirstLine | HeadFault::Target) => Reason::BadPath,
            Self::Fault(HeadFault::TargetTooLong) => Reason::TargetTooLong,
            Self::Fault(HeadFault::TooLarge) => Reason::HeadTooLarge,
            Self::Fault(HeadFault::Host) => Reason::BadHost,
            Self::Fault(_) => Reason::BadFraming,
            Self::TooSlow => Reason::HeadTooSlow,
        }
    }

    /// What is wrong, where there is more to say than the reason.
    pub(super) fn detail(self) -> Option<String> {
        match self {
            Self::Fault(fault) => Some(fault.to_string()),
            Self::TooSlow => None,
        }
    }
}
