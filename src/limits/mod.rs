//! Limits: how often a user or an address may do what, and who is shut out for what.

mod ban;
mod rate;
mod recent;
mod strikes;

pub use ban::{Ban, BanBook, BanChange, InForce, holds};
pub use rate::{Exceeded, RateLimit, Tracker};
pub use recent::RecentClients;
pub use strikes::{Offence, Strike, Strikes};
