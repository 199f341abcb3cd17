//! Stored API keys: a hash of the secret, and what the key allows.

use rusqlite::{Row, named_params};
use sallyport_core::names::username::UserName;

use super::{
    Store, StoreError,
    users::{readable, role, user_name},
};
use crate::identity::{KeyOrigin, KeyRecord, UserId};

/// A key to store.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// The public ID.
    pub id: &'a str,
    /// SHA-256 of the secret part, or of an imported key's text.
    pub hash: [u8; 32],
    /// The origin of its text.
    pub origin: KeyOrigin,
    /// The owner of the key.
    pub user: &'a UserName,
    /// The scopes, separated by spaces.
    pub scopes: &'a str,
    /// The owner's note.
    pub note: &'a str,
    /// The current time.
    pub created: i64,
    /// When it expires.
    pub expires: Option<i64>,
}

const SELECT: &str =
    "SELECT k.id, k.hash, u.name, u.role, k.scopes, k.note, k.created, k.expires, k.last_used, k.imported,
    iif(u.reused, u.id, NULL) FROM api_key k JOIN user u ON u.id = k.user ORDER BY k.created, k.id";

impl Store {
    /// Stores a key.
    pub fn add_key(&self, key: &NewKey<'_>) -> Result<(), StoreError> {
        self.connection().execute(
            "INSERT INTO api_key (id, hash, imported, user, scopes, note, created, expires)
             VALUES (:id, :hash, :imported, (SELECT id FROM user WHERE name = :user), :scopes, :note, :created, :expires)",
            named_params! {
                ":id": key.id, ":hash": key.hash, ":imported": key.origin == KeyOrigin::Imported, ":user": key.user.as_str(), ":scopes": key.scopes,
                ":note": key.note, ":created": key.created, ":expires": key.expires,
            },
        )?;
        Ok(())
    }

    /// Returns every key, oldest first, without those that cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(SELECT)?;
        readable("key", statement.query_map([], key_from)?)
    }

    /// Returns the hashes of recently revoked keys, including keys that were imported again since.
    pub fn revoked_keys(&self) -> Result<Vec<[u8; 32]>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT hash FROM revoked_key")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Deletes a key and revokes the links that were created with it; returns false if there is no key with that ID.
    pub fn remove_key(&self, id: &str) -> Result<bool, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute(
            "UPDATE link SET revoked = 1 WHERE maker IN (SELECT id FROM link_maker WHERE kind = 'api-key' AND name = ?)",
            [id],
        )?;
        let removed = transaction.execute("DELETE FROM api_key WHERE id = ?", [id])? == 1;
        transaction.commit()?;
        Ok(removed)
    }

    /// Stores when keys were last used.
    pub fn touch_keys(&self, used: &[(String, i64)]) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        for (id, at) in used {
            transaction
                .prepare_cached("UPDATE api_key SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1")?
                .execute((id, at))?;
        }
        Ok(transaction.commit()?)
    }
}

fn key_from(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let user = user_name(row, 2)?;
    Ok(KeyRecord {
        role: role(row, 3, &user)?,
        id: row.get(0)?,
        hash: row.get(1)?,
        user,
        generation: row.get::<_, Option<i64>>(10)?.map(UserId),
        scopes: row.get(4)?,
        note: row.get(5)?,
        created: row.get(6)?,
        expires: row.get(7)?,
        last_used: row.get(8)?,
        origin: if row.get(9)? { KeyOrigin::Imported } else { KeyOrigin::Made },
    })
}

#[cfg(test)]
mod tests {
    use sallyport_core::names::role::Role;

    use super::*;

    #[test]
    fn a_key_is_stored_touched_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let ana: UserName = "ana".parse().unwrap();
        store.add_user(&ana, Role::Admin, None, 1).unwrap();
        let key = NewKey {
            id: "k1",
            hash: [7; 32],
            origin: KeyOrigin::Made,
            user: &ana,
            scopes: "*",
            note: "phone",
            created: 2,
            expires: Some(9),
        };
        store.add_key(&key).unwrap();
        store.touch_keys(&[("k1".into(), 5), ("gone".into(), 6)]).unwrap();
        store.touch_keys(&[("k1".into(), 4)]).unwrap();
        let kept = store.keys().unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].hash, kept[0].role, kept[0].last_used), ([7; 32], Role::Admin, Some(5)));
        assert!(store.remove_key("k1").unwrap());
        assert!(!store.remove_key("k1").unwrap());
    }

    #[test]
    fn the_hashes_of_the_last_ten_thousand_revoked_keys_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let ana: UserName = "ana".parse().unwrap();
        store.add_user(&ana, Role::User, None, 1).unwrap();
        let add = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10002)
            INSERT INTO api_key (id, hash, imported, user, scopes, note, created) SELECT i, randomblob(32), 0, 1, '*', '', 0 FROM n";
        store.connection().execute(add, []).unwrap();
        let first = store.keys().unwrap().into_iter().find(|key| key.id == "1").unwrap().hash;
        store.remove_key("1").unwrap();
        assert_eq!(store.revoked_keys().unwrap(), [first]);
        store.remove_user(&ana, 2).unwrap();
        let revoked = store.revoked_keys().unwrap();
        assert_eq!((revoked.len(), revoked.contains(&first)), (10_000, false));
    }
}
