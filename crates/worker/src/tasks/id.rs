//! The id of a task: a random UUID in its canonical spelling.

use std::{fmt, str::FromStr};

use thiserror::Error;
use uuid::Uuid;

/// The id of a task: a random UUID in its canonical spelling, hard to guess and safe as a folder name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(Uuid);

impl From<TaskId> for Uuid {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

/// The error for a text that is not a task id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a task id")]
pub struct InvalidTaskId;

impl TaskId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let id = Uuid::try_parse(text).map(Self).map_err(|_| InvalidTaskId)?;
        if id.to_string() == text { Ok(id) } else { Err(InvalidTaskId) }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = TaskId::random().to_string();
        assert!(id.parse::<TaskId>().is_ok());
        for other in [id.replace('-', ""), id.to_uppercase() + "A", format!("{{{id}}}"), format!("urn:uuid:{id}")] {
            assert_eq!(other.parse::<TaskId>(), Err(InvalidTaskId), "{other}");
        }
    }
}
