//! State that outlives a process: users, API keys, links and bans in SQLite; secrets in separate files.

mod bans;
mod database;
mod keys;
mod links;
mod reserve;
mod secrets;
mod users;
mod withdrawal;

pub use self::database::{Store, StoreError};
pub use self::keys::NewKey;
pub use self::links::{Added, LinkQuota};
pub use self::secrets::{DatedSecret, Secrets, SecretsError};
pub use self::users::UserRecord;
pub use self::withdrawal::Withdrawal;
