//! What connects `sallyport up` and its roles: the lock on a data folder, and the messages between them.

pub(crate) mod detach;
mod oom;
mod tenure;
mod word;

pub use oom::Worth;
pub use tenure::{Supervisor, Tenure, TenureError};
pub use word::{Word, words};
