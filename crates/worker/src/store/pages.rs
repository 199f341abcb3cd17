//! Reads lists of tasks one page at a time. Between two pages others can use the database, however slowly a client reads.

use rusqlite::{Connection, OptionalExtension, Row, params, types::Value};

use super::{
    Store, StoreError,
    row::{COLUMNS, parsed, read},
};
use crate::tasks::{
    owner::Owner,
    task::{Status, Task},
};

/// The maximum number of tasks to examine before others get their turn at the database.
const MAX_EXAMINED: usize = 500;

/// A filter for tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The owner; all users' tasks if none.
    pub(crate) owner: Option<Owner>,
    /// The status must be one of these; any if empty.
    pub(crate) states: Vec<Status>,
    /// The title or the URL must contain this, given in lower case; anything if empty.
    pub(crate) text: String,
    pub(crate) order: Order,
}

/// The sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    OldestFirst,
    NewestFirst,
}

/// The position of a task among all tasks, which never changes.
pub(crate) type Sequence = i64;

/// Limits of one page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The maximum number of tasks.
    pub(crate) rows: usize,
    /// A page ends with the task that brings it to this length, in bytes.
    pub(crate) bytes: usize,
}

/// A part of a list of tasks, as `write` produced it.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) text: Vec<u8>,
    pub(crate) rows: usize,
    /// How many tasks were examined, including those that did not match.
    pub(crate) examined: usize,
    /// The task after which the next page starts; none at the end.
    pub(crate) next: Option<Sequence>,
}

/// The number of tasks in each state, by the state's name for clients.
pub(crate) type Totals = Vec<(&'static str, u64)>;

impl Store {
    /// Reads the tasks after `after`, or from the beginning, and appends each matching one with `write`.
    pub(crate) async fn page(
        &self,
        selection: Selection,
        after: Option<Sequence>,
        bounds: Bounds,
        write: impl Fn(Task, &mut Vec<u8>) + Send + 'static,
    ) -> Result<Page, StoreError> {
        self.run(move |db| {
            let sql = selection.order.query(selection.owner.is_some());
            let owner = selection.owner.as_ref().map(|owner| owner.as_str().to_owned());
            let mut statement = db.prepare_cached(&sql)?;
            let behind = after.unwrap_or(selection.order.beginning());
            let mut rows = match owner {
                Some(owner) => statement.query(params![behind, owner])?,
                None => statement.query(params![behind])?,
            };
            let mut page = Page::default();
            while let Some(row) = rows.next()? {
                if page.is_full(bounds) {
                    return Ok(page);
                }
                page.next = Some(row.get("sequence")?);
                page.examined += 1;
                if selection.wants(row)? {
                    write(read(row)?, &mut page.text);
                    page.rows += 1;
                }
            }
            page.next = None;
            Ok(page)
        })
        .await
    }

    /// The position before the newest `most` tasks of an owner, or of all users; none if there are no more than that.
    pub(crate) async fn before_newest(
        &self,
        owner: Option<Owner>,
        most: usize,
    ) -> Result<Option<Sequence>, StoreError> {
        self.run(move |db| {
            let (of, owner) = owner_clause(owner);
            let sql = format!("SELECT sequence FROM task WHERE {of} ORDER BY sequence DESC LIMIT 1 OFFSET ?2");
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            db.prepare_cached(&sql)?.query_row(params![owner, most], |row| row.get(0)).optional()
        })
        .await
    }

    /// Counts the tasks of an owner, or of all users, in each state that clients see.
    pub(crate) async fn totals(&self, owner: Option<Owner>) -> Result<Totals, StoreError> {
        self.run(move |db| totals(db, owner)).await
    }
}

impl Order {
    /// Each query has an index, so that it does not scan the tasks of other users.
    fn query(self, of_one: bool) -> String {
        let (behind, direction) = match self {
            Self::OldestFirst => (">", "ASC"),
            Self::NewestFirst => ("<", "DESC"),
        };
        let owner = if of_one { "AND owner = ?2" } else { "" };
        format!(
            "SELECT {COLUMNS}, sequence FROM task WHERE sequence {behind} ?1 {owner} AND status <> 'removing' \
             ORDER BY sequence {direction}"
        )
    }

    const fn beginning(self) -> Sequence {
        match self {
            Self::OldestFirst => 0,
            Self::NewestFirst => Sequence::MAX,
        }
    }
}

impl Selection {
    fn wants(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        if !self.states.is_empty() && !self.states.contains(&parsed(row, 6)?) {
            return Ok(false);
        }
        let has = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str()?.to_lowercase().contains(&self.text));
        Ok(self.text.is_empty() || has(7)? || has(2)?)
    }
}

impl Page {
    fn is_full(&self, bounds: Bounds) -> bool {
        self.rows >= bounds.rows || self.text.len() >= bounds.bytes || self.examined >= MAX_EXAMINED
    }
}

/// The condition on the owner; it takes one parameter in either case.
fn owner_clause(owner: Option<Owner>) -> (&'static str, Value) {
    match owner {
        Some(owner) => ("owner = ?1", Value::Text(owner.as_str().to_owned())),
        None => ("?1 IS NULL", Value::Null),
    }
}

fn totals(db: &Connection, owner: Option<Owner>) -> rusqlite::Result<Totals> {
    let (of, owner) = owner_clause(owner);
    let sql = format!("SELECT status, count(*) FROM task WHERE {of} AND status <> 'removing' GROUP BY status");
    let mut statement = db.prepare_cached(&sql)?;
    let counts = statement.query_map([owner], |row| Ok((parsed::<Status>(row, 0)?, row.get::<_, i64>(1)?)))?;
    let mut totals: Totals = Status::SHOWN.map(|status| (status.name(), 0)).into();
    for count in counts {
        let (status, count) = count?;
        if let Some((_, total)) = totals.iter_mut().find(|(name, _)| *name == status.shown()) {
            *total += count.max(0).cast_unsigned();
        }
    }
    Ok(totals)
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
