//! Heads that are refused before they become a request.

use sallyport_core::http1::HeadFault;

use crate::policy::{Denial, Reason, Site};

/// Why a head was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeadError {
    /// It violates the grammar.
    Fault(HeadFault),
    /// It took too long.
    TooSlow,
}

impl From<HeadFault> for HeadError {
    fn from(fault: HeadFault) -> Self {
        Self::Fault(fault)
    }
}

impl HeadError {
    /// Returns the denial, in the site's common style, since the application is unknown.
    pub(crate) fn denial(self, site: &Site) -> Denial {
        Denial { detail: self.detail(), style: site.common_style(), ..Denial::bare(self.reason()) }
    }

    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Fault(HeadFault::FirstLine | HeadFault::Target) => Reason::BadPath,
            Self::Fault(HeadFault::TargetTooLong) => Reason::TargetTooLong,
            Self::Fault(HeadFault::TooLarge) => Reason::HeadTooLarge,
            Self::Fault(HeadFault::Host) => Reason::BadHost,
            Self::Fault(_) => Reason::BadFraming,
            Self::TooSlow => Reason::HeadTooSlow,
        }
    }

    /// Returns what is wrong, if there is more to say than the reason.
    pub(crate) fn detail(self) -> Option<String> {
        match self {
            Self::Fault(fault) => Some(fault.to_string()),
            Self::TooSlow => None,
        }
    }
}
