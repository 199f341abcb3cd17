//! What the gateway did with a request, in logs and metrics.

/// What the gateway did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An application answered it, or should have.
    Forward,
    /// It was denied.
    Deny,
    /// The gateway itself answered it.
    Own,
    /// It was a CORS preflight.
    Preflight,
}

impl Verdict {
    /// Returns the name used in logs and labels.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Deny => "deny",
            Self::Own => "own",
            Self::Preflight => "preflight",
        }
    }
}
