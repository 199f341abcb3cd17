//! What `sallyport up` and the roles that it starts know of each other: who runs a data folder, and what is told about it.

pub(crate) mod detach;
mod oom;
mod tenure;
mod word;

pub use oom::Worth;
pub use tenure::{Supervisor, Tenure, TenureError};
pub use word::{Word, words};
