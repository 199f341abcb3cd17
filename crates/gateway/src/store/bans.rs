//! Stored bans: one row for each client that is banned or was so recently.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Type};

use super::{Store, StoreError};
use crate::limits::{Ban, BanChange};

const INSERT: &str =
    "INSERT INTO ban (network, why, since, until, times) VALUES (:network, :why, :since, :until, :times)
    ON CONFLICT (network) DO UPDATE SET why = :why, since = :since, until = :until, times = :times";

/// Unless somebody has banned the same client for longer in the meantime.
const UNLESS_LONGER: &str = "WHERE ban.until < excluded.until";

impl Store {
    /// Returns every stored ban, the oldest first.
    pub fn bans(&self) -> Result<Vec<Ban>, StoreError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT network, why, since, until, times FROM ban ORDER BY since, network")?;
        Ok(statement.query_map([], ban_from)?.collect::<Result<_, _>>()?)
    }

    /// Returns the ban of a client.
    pub fn ban(&self, network: IpAddr) -> Result<Option<Ban>, StoreError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT network, why, since, until, times FROM ban WHERE network = ?")?;
        Ok(statement.query_row([network.to_string()], ban_from).optional()?)
    }

    /// Stores a ban, replacing any other ban of that client.
    pub fn put_ban(&self, ban: &Ban) -> Result<(), StoreError> {
        insert(&self.connection(), INSERT, ban)
    }

    /// Removes a ban and the count of earlier ones; returns false if the client has none.
    pub fn remove_ban(&self, network: IpAddr) -> Result<bool, StoreError> {
        Ok(self.connection().execute("DELETE FROM ban WHERE network = ?", [network.to_string()])? == 1)
    }

    /// Stores the gateway's changes, all or none, without undoing what others have done in the meantime.
    pub fn write_bans(&self, changes: &[BanChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let unless_longer = format!("{INSERT} {UNLESS_LONGER}");
        for change in changes {
            match change {
                BanChange::Made(ban) => insert(&transaction, &unless_longer, ban)?,
                BanChange::Forgotten(ban) => {
                    transaction
                        .prepare_cached("DELETE FROM ban WHERE network = ? AND since = ? AND until = ?")?
                        .execute((ban.network.to_string(), ban.since, ban.until))?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

fn insert(connection: &Connection, sql: &str, ban: &Ban) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute(named_params! {
        ":network": ban.network.to_string(), ":why": ban.why, ":since": ban.since, ":until": ban.until, ":times": ban.times,
    })?;
    Ok(())
}

fn ban_from(row: &Row<'_>) -> rusqlite::Result<Ban> {
    let network: String = row.get(0)?;
    let network = network.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e)))?;
    Ok(Ban { network, why: row.get(1)?, since: row.get(2)?, until: row.get(3)?, times: row.get(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(n: u8, since: i64, until: Option<i64>) -> Ban {
        Ban { network: IpAddr::from([192, 0, 2, n]), why: "why".into(), since, until, times: 1 }
    }

    #[test]
    fn a_ban_is_stored_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        let network = ban(1, 0, None).network;
        store.write_bans(&[BanChange::Made(ban(1, 0, Some(10))), BanChange::Made(ban(2, 0, Some(10)))]).unwrap();
        store.write_bans(&[BanChange::Made(ban(1, 20, Some(80)))]).unwrap();
        assert_eq!(store.bans().unwrap(), [ban(2, 0, Some(10)), ban(1, 20, Some(80))]);
        store.put_ban(&ban(1, 30, Some(40))).unwrap();
        assert_eq!(store.ban(network).unwrap(), Some(ban(1, 30, Some(40))));
        assert!(store.remove_ban(network).unwrap());
        assert!(!store.remove_ban(network).unwrap());
    }

    #[test]
    fn a_late_write_of_the_gateway_does_not_undo_a_command() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        store.put_ban(&ban(1, 5, None)).unwrap();
        store.put_ban(&ban(2, 5, Some(1_000))).unwrap();
        let late = [ban(1, 4, Some(600)), ban(2, 4, Some(600))];
        store.write_bans(&late.clone().map(BanChange::Made)).unwrap();
        store.write_bans(&late.map(BanChange::Forgotten)).unwrap();
        assert_eq!(store.bans().unwrap(), [ban(1, 5, None), ban(2, 5, Some(1_000))]);
    }
}
