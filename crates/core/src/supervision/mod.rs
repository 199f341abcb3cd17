//! What connects `sallyport up` and its roles: the lock on a data folder, and the messages between them.

pub mod detach;
mod instance_lock;
mod notify;
mod oom;
pub mod shutdown;

pub use self::instance_lock::{InstanceLock, InstanceLockError, Supervisor};
pub use self::notify::{Notification, words};
pub use self::oom::OomPriority;
