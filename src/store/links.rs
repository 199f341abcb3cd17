//! Signed links that were made: for the list, and for taking one back before it expires.

use rusqlite::{Row, named_params};

use super::{Store, StoreError, users::user_name};
use crate::username::UserName;

/// A link that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRecord {
    /// Its id, part of the URL.
    pub id: String,
    /// The application that it leads to.
    pub app: String,
    /// Path and query that it opens.
    pub target: String,
    /// In whose name it acts.
    pub user: UserName,
    /// When it was made, in Unix seconds.
    pub created: i64,
    /// When it stops working.
    pub expires: i64,
    /// True when it was taken back.
    pub revoked: bool,
}

impl Store {
    /// Keeps a link, and forgets those that expired a day ago and more.
    pub fn add_link(&self, link: &LinkRecord) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM link WHERE expires < ?", [link.created - 86_400])?;
        transaction.execute(
            "INSERT INTO link (id, app, target, user, created, expires) VALUES (:id, :app, :target, :user, :created, :expires)",
            named_params! {
                ":id": link.id, ":app": link.app, ":target": link.target, ":user": link.user.as_str(),
                ":created": link.created, ":expires": link.expires,
            },
        )?;
        Ok(transaction.commit()?)
    }

    /// Every link that is kept, oldest first.
    pub fn links(&self) -> Result<Vec<LinkRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT id, app, target, user, created, expires, revoked FROM link ORDER BY created, rowid")?;
        Ok(statement.query_map([], link_from)?.collect::<Result<_, _>>()?)
    }

    /// The ids of links that were taken back and have not expired at `now`.
    pub fn revoked_links(&self, now: i64) -> Result<Vec<String>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT id FROM link WHERE revoked = 1 AND expires >= ?")?;
        Ok(statement.query_map([now], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Takes a link back; false where there is none of that id.
    pub fn revoke_link(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.connection().execute("UPDATE link SET revoked = 1 WHERE id = ?", [id])? == 1)
    }
}

fn link_from(row: &Row<'_>) -> rusqlite::Result<LinkRecord> {
    Ok(LinkRecord {
        id: row.get(0)?,
        app: row.get(1)?,
        target: row.get(2)?,
        user: user_name(row, 3)?,
        created: row.get(4)?,
        expires: row.get(5)?,
        revoked: row.get(6)?,
    })
}
