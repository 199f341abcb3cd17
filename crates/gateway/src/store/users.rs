//! Stored users, who may hold keys and own objects.

use rusqlite::{OptionalExtension, Row, named_params};
use sallyport_core::names::{
    role::{InvalidRole, Role},
    username::{InvalidUserName, UserName},
};
use thiserror::Error;

use super::{Store, StoreError};
use crate::identity::{NameUse, UserId};

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The ID, which is never reused.
    pub id: UserId,
    /// The name.
    pub name: UserName,
    /// What the user may do with the objects of other users.
    pub role: Role,
    /// Whether an earlier user had the same name.
    pub name_use: NameUse,
}

/// A user whose stored role is not one that this version knows.
#[derive(Debug, Error)]
#[error("the role of {name}: {source}; remove the user and add them again")]
struct UnknownRole {
    name: UserName,
    source: InvalidRole,
}

const SELECT: &str = "SELECT id, name, role, reused FROM user";

impl Store {
    /// Adds a user; returns false if the name is taken.
    pub fn add_user(
        &self,
        name: &UserName,
        role: Role,
        password_hash: Option<&str>,
        now: i64,
    ) -> Result<bool, StoreError> {
        let added = self.connection().execute(
            "INSERT OR IGNORE INTO user (name, role, password_hash, created, reused)
             VALUES (:name, :role, :hash, :now, EXISTS (SELECT 1 FROM removed_user WHERE name = :name))",
            named_params! { ":name": name.as_str(), ":role": role.name(), ":hash": password_hash, ":now": now },
        )?;
        Ok(added == 1)
    }

    /// Returns the user of that name.
    pub fn user(&self, name: &UserName) -> Result<Option<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE name = ?"))?;
        Ok(statement.query_row([name.as_str()], user_from).optional()?)
    }

    /// Returns every user, by name, without those that cannot be read.
    pub fn users(&self) -> Result<Vec<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(&format!("{SELECT} ORDER BY name"))?;
        readable("user", statement.query_map([], user_from)?)
    }

    /// Returns the name of every user, including those that [`Store::users`] cannot read.
    pub fn user_names(&self) -> Result<Vec<UserName>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT name FROM user ORDER BY name")?;
        readable("user name", statement.query_map([], |row| user_name(row, 0))?)
    }

    /// Deletes a user and their keys, and revokes their links; returns false if there is no such user. The name remains recorded as used before.
    pub fn remove_user(&self, name: &UserName, now: i64) -> Result<bool, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE link SET revoked = 1 WHERE user = ?", [name.as_str()])?;
        transaction.execute(
            "UPDATE link SET revoked = 1 WHERE maker IN (SELECT m.id FROM link_maker m JOIN api_key k ON k.id = m.name
             JOIN user u ON u.id = k.user WHERE m.kind = 'api-key' AND u.name = ?)",
            [name.as_str()],
        )?;
        // The schema deletes the keys together with their user.
        let removed = transaction.execute("DELETE FROM user WHERE name = ?", [name.as_str()])? == 1;
        if removed {
            transaction
                .execute("INSERT OR REPLACE INTO removed_user (name, at) VALUES (?, ?)", (name.as_str(), now))?;
        }
        transaction.commit()?;
        Ok(removed)
    }

    /// Returns the names of removed users, and when they were removed.
    pub fn removed_users(&self) -> Result<Vec<(UserName, i64)>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT name, at FROM removed_user")?;
        readable("removed user", statement.query_map([], |row| Ok((user_name(row, 0)?, row.get(1)?)))?)
    }

    /// Returns the administrator who was added first.
    pub fn first_admin(&self) -> Result<Option<UserRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(&format!("{SELECT} WHERE role = ? ORDER BY created, id LIMIT 1"))?;
        Ok(statement.query_row([Role::Admin.name()], user_from).optional()?)
    }
}

fn user_from(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    let name_use = if row.get(3)? { NameUse::Again } else { NameUse::First };
    let name = user_name(row, 1)?;
    Ok(UserRecord { id: UserId(row.get(0)?), role: role(row, 2, &name)?, name, name_use })
}

/// Collects the readable rows. An unreadable row is logged and skipped, so that it does not hide the others; a skipped row grants nothing.
pub(super) fn readable<T>(what: &str, rows: impl Iterator<Item = rusqlite::Result<T>>) -> Result<Vec<T>, StoreError> {
    let mut read = Vec::new();
    for row in rows {
        match row {
            Ok(row) => read.push(row),
            Err(
                error @ (rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)),
            ) => {
                tracing::error!(%error, "ignoring a {what} in state.db that cannot be read");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read)
}

/// Reads the role of the user of that name.
pub(super) fn role(row: &Row<'_>, column: usize, name: &UserName) -> rusqlite::Result<Role> {
    let text: String = row.get(column)?;
    text.parse().map_err(|source| conversion(column, UnknownRole { name: name.clone(), source }))
}

pub(super) fn user_name(row: &Row<'_>, column: usize) -> rusqlite::Result<UserName> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: InvalidUserName| conversion(column, error))
}

fn conversion(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{KeyOrigin, LinkRecord},
        store::{Added, LinkQuota, NewKey},
    };

    #[test]
    fn removing_a_user_ends_their_keys_and_links_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let [ana, ben] = ["ana", "ben"].map(|name| name.parse::<UserName>().unwrap());
        for (i, user) in [&ana, &ben].into_iter().enumerate() {
            store.add_user(user, Role::User, None, 1).unwrap();
            let id = user.to_string();
            let hash = [u8::try_from(i).unwrap(); 32];
            let origin = KeyOrigin::Made;
            let scopes = "*";
            let note = "";
            store.add_key(&NewKey { id: &id, hash, origin, user, scopes, note, created: 2, expires: None }).unwrap();
            let owner = store.user(user).unwrap().map(|user| user.id);
            let link = LinkRecord::of(&id, user, owner, 2, 9);
            assert_eq!(store.add_link(&link, LinkQuota { per_user: 1, in_all: 9 }).unwrap(), Added::Kept);
        }
        assert!(store.remove_user(&ana, 5).unwrap());
        assert!(!store.remove_user(&ana, 6).unwrap());
        let keys: Vec<_> = store.keys().unwrap().into_iter().map(|key| key.user).collect();
        assert_eq!((store.user(&ana).unwrap(), keys), (None, vec![ben]));
        let links = store.links().unwrap();
        assert_eq!(
            links.iter().map(|link| (&*link.id, link.revoked)).collect::<Vec<_>>(),
            [("ana", true), ("ben", false)]
        );
    }

    #[test]
    fn a_user_of_an_unknown_role_is_listed_by_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let [ana, ben] = ["ana", "ben"].map(|name| name.parse::<UserName>().unwrap());
        assert!([&ana, &ben].into_iter().all(|name| store.add_user(name, Role::User, None, 1).unwrap()));
        store.connection().execute("UPDATE user SET role = 'owner' WHERE name = 'ana'", []).unwrap();
        let users: Vec<_> = store.users().unwrap().into_iter().map(|user| user.name).collect();
        assert_eq!((users, store.user_names().unwrap()), (vec![ben.clone()], vec![ana.clone(), ben.clone()]));
        let error = store.user(&ana).unwrap_err();
        assert!(error.to_string().contains("ana"), "{error}");
    }

    #[test]
    fn a_later_user_of_the_same_name_is_a_different_user() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let ana: UserName = "ana".parse().unwrap();
        let add = |now| store.add_user(&ana, Role::User, None, now).unwrap();
        assert!(add(1) && !add(2));
        let first = store.user(&ana).unwrap().unwrap();
        assert!(store.remove_user(&ana, 3).unwrap() && add(4));
        let second = store.user(&ana).unwrap().unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!((first.name_use, second.name_use), (NameUse::First, NameUse::Again));
        assert_eq!(store.removed_users().unwrap(), [(ana, 3)]);
    }
}
