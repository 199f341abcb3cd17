//! One request: from its head to the decision, then to the application and back, or to a denial.

mod create_link;
mod deny;
pub(super) mod exchange;
mod failure;
mod field_names;
mod forward;
mod from_upstream;
pub(super) mod gateway;
pub(super) mod handle;
pub(super) mod respond;
pub(super) mod to_upstream;
mod tunnel;
mod upload;
