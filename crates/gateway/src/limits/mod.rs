//! Limits: how often a user or an address may make requests, and which clients are banned.

mod ban;
mod rate;
mod recent;
mod strikes;

pub use self::ban::{Ban, BanBook, BanChange, InForce, holds};
pub use self::rate::{Acquaintance, Exceeded, RateLimit, Tracker};
pub use self::recent::RecentClients;
pub use self::strikes::{Offence, Strike, Strikes};
