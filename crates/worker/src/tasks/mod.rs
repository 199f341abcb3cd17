//! Tasks: what a user has requested, and what everybody may know about it.

pub(super) mod events;
pub(super) mod language;
pub(super) mod order;
pub(super) mod owner;
pub(super) mod source;
pub(super) mod task;
