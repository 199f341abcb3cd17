//! State that outlives a process: users, API keys, links and bans in SQLite; secrets in separate files.

mod bans;
mod database;
mod keys;
mod links;
mod reserve;
mod secrets;
mod users;
mod withdrawal;

pub use database::{Store, StoreError};
pub use keys::{KeyOrigin, KeyRecord, NewKey};
pub use links::{Added, LinkQuota, LinkRecord, MakerRecord};
pub use secrets::{DatedSecret, Secrets, SecretsError};
pub use users::UserRecord;
pub use withdrawal::Withdrawal;
