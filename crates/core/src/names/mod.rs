//! Names: users and their roles, the accounts of the machine, and the closest known word for a misspelled one.

pub mod account;
pub mod role;
pub mod spelling;
pub mod username;
