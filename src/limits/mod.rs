//! Limits: how often a user or an address may make requests, and which clients are banned.

mod ban;
mod rate;
mod recent;
mod strikes;

pub use ban::{Ban, BanBook, BanChange, InForce, holds};
pub use rate::{Acquaintance, Exceeded, RateLimit, Tracker};
pub use recent::RecentClients;
pub use strikes::{Offence, Strike, Strikes};
