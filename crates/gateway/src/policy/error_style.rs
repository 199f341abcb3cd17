//! What an application wants its clients to see of a denial.

use serde::Deserialize;

/// The format of error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorStyle {
    /// RFC 9457.
    #[default]
    Problem,
    /// `{"detail":"…"}`, as FastAPI's front ends expect.
    Fastapi,
}

/// Which clients a 401 offers Basic authentication, in addition to Bearer, which every 401 offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BasicChallenge {
    /// Programs such as curl, wget and media players, many of which send a password only after a challenge. Pages and scripts in a
    /// browser, recognised by `Sec-Fetch-Mode` (Fetch Metadata, section 2.2), are excluded because the browser would prompt the user.
    #[default]
    Programs,
    /// All clients.
    Always,
    /// No client.
    Never,
}
