//! Names: user names, the accounts of the machine, and the closest known word for a misspelt one.

pub mod account;
pub mod spelling;
pub mod username;
