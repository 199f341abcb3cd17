//! Users: who may hold keys and own objects.

use rusqlite::{OptionalExtension, Row, named_params};

use super::{Store, StoreError};
use crate::username::UserName;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The name.
    pub name: UserName,
    /// `admin` or `user`.
    pub role: String,
}

impl Store {
    /// Adds a user; false where the name is taken.
    pub fn add_user(
        &self,
        name: &UserName,
        role: &str,
        password_hash: Option<&str>,
        now: i64,
    ) -> Result<bool, StoreError> {
        let added = self.connection().execute(
            "INSERT OR IGNORE INTO user (name, role, password_hash, created) VALUES (:name, :role, :hash, :now)",
            named_params! { ":name": name.as_str(), ":role": role, ":hash": password_hash, ":now": now },
        )?;
        Ok(added == 1)
    }

    /// The user of that name.
    pub fn user(&self, name: &UserName) -> Result<Option<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT name, role FROM user WHERE name = ?")?;
        Ok(statement.query_row([name.as_str()], user_from).optional()?)
    }

    /// Every user, by name.
    pub fn users(&self) -> Result<Vec<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT name, role FROM user ORDER BY name")?;
        Ok(statement.query_map([], user_from)?.collect::<Result<_, _>>()?)
    }

    /// Every administrator.
    pub fn admins(&self) -> Result<Vec<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT name, role FROM user WHERE role = 'admin'")?;
        Ok(statement.query_map([], user_from)?.collect::<Result<_, _>>()?)
    }

    /// The user whose role is `admin` that was added first.
    pub fn first_admin(&self) -> Result<Option<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT name, role FROM user WHERE role = 'admin' ORDER BY created, rowid LIMIT 1")?;
        Ok(statement.query_row([], user_from).optional()?)
    }
}

fn user_from(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    Ok(UserRecord { name: user_name(row, 0)?, role: row.get(1)? })
}

pub(super) fn user_name(row: &Row<'_>, column: usize) -> rusqlite::Result<UserName> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}
