//! Limits: how often a user or an address may do what.

mod rate;

pub use rate::{Exceeded, RateLimit, Tracker};
