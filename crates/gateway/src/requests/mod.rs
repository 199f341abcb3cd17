//! One request: from its head to the decision, then to the application and back, or to a denial.

pub(super) mod exchange;
pub(super) mod forward;
pub(super) mod handle;
pub(super) mod headers;
pub(super) mod respond;
pub(super) mod tunnel;
pub(super) mod upload;
