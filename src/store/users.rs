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

    /// Forgets a user and every key of theirs, and takes their links back; false where there is no such user.
    pub fn remove_user(&self, name: &UserName) -> Result<bool, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE link SET revoked = 1 WHERE user = ?", [name.as_str()])?;
        // The schema has the keys go with their user.
        let removed = transaction.execute("DELETE FROM user WHERE name = ?", [name.as_str()])? == 1;
        transaction.commit()?;
        Ok(removed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{KeyOrigin, LinkRecord, NewKey};

    #[test]
    fn a_user_goes_with_keys_and_links_and_nobody_elses_do() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let [ana, ben] = ["ana", "ben"].map(|name| name.parse::<UserName>().unwrap());
        for (i, user) in [&ana, &ben].into_iter().enumerate() {
            store.add_user(user, "user", None, 1).unwrap();
            let (id, hash) = (user.to_string(), [u8::try_from(i).unwrap(); 32]);
            let (origin, scopes, note) = (KeyOrigin::Made, "*", "");
            store.add_key(&NewKey { id: &id, hash, origin, user, scopes, note, created: 2, expires: None }).unwrap();
            let (app, target) = ("a".to_owned(), "/".to_owned());
            let link = LinkRecord { id, app, target, user: user.clone(), created: 2, expires: 9, revoked: false };
            store.add_link(&link).unwrap();
        }
        assert!(store.remove_user(&ana).unwrap());
        assert!(!store.remove_user(&ana).unwrap());
        let keys: Vec<_> = store.keys().unwrap().into_iter().map(|key| key.user).collect();
        assert_eq!((store.user(&ana).unwrap(), keys), (None, vec![ben]));
        assert_eq!(store.revoked_links(3).unwrap(), ["ana"]);
    }
}
