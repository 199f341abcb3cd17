//! Stored signed links: their users, the credentials that created them, and whether they were revoked.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params};
use sallyport_core::names::username::UserName;

use super::{
    Store, StoreError,
    users::{readable, user_name},
};
use crate::identity::{CredentialKind, LinkRecord, MakerRecord, UserId};

/// How long an expired link stays in the list, in seconds, if the quota leaves space.
const KEEP_EXPIRED: i64 = 86_400;

/// The maximum number of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkQuota {
    /// For each user.
    pub per_user: u32,
    /// In total.
    pub in_all: u32,
}

/// The result of adding a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The link was stored.
    Kept,
    /// There are too many links already.
    TooMany,
}

const SELECT: &str = "SELECT id, app, target, user, created, expires, revoked, owner, maker FROM link";

/// Makers by their row ID. Each is read once, however many links it created.
type Makers = HashMap<i64, Arc<MakerRecord>>;

impl Store {
    /// Stores a link if the quota allows it. Links that no longer open anything are removed to make space.
    pub fn add_link(&self, link: &LinkRecord, quota: LinkQuota) -> Result<Added, StoreError> {
        let mut connection = self.connection();
        // Count and insert in one transaction, so that no other process can insert in between.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        forget(&transaction, link.created - KEEP_EXPIRED)?;
        if !quota.has_room(&transaction, &link.user)? {
            transaction.execute("DELETE FROM link WHERE expires < ? OR revoked = 1", [link.created])?;
            if !quota.has_room(&transaction, &link.user)? {
                transaction.commit()?;
                return Ok(Added::TooMany);
            }
        }
        insert(&transaction, link)?;
        transaction.commit()?;
        Ok(Added::Kept)
    }

    /// Returns every stored link, oldest first, without those that cannot be read.
    pub fn links(&self) -> Result<Vec<LinkRecord>, StoreError> {
        self.links_where("", "ORDER BY created, rowid", i64::MIN)
    }

    /// Returns every stored link that is neither expired at `now` nor revoked.
    pub fn open_links(&self, now: i64) -> Result<Vec<LinkRecord>, StoreError> {
        self.links_where("AND revoked = 0", "", now)
    }

    fn links_where(&self, which: &str, order: &str, ends_after: i64) -> Result<Vec<LinkRecord>, StoreError> {
        let mut connection = self.connection();
        // Read links and makers in one snapshot.
        let transaction = connection.transaction()?;
        let mut makers = transaction.prepare_cached(&format!(
            "SELECT id, kind, name, proof FROM link_maker WHERE id IN (SELECT maker FROM link WHERE expires >= ? {which})"
        ))?;
        let makers: Makers =
            readable("link's maker", makers.query_map([ends_after], maker_from)?)?.into_iter().collect();
        let mut links = transaction.prepare_cached(&format!("{SELECT} WHERE expires >= ? {which} {order}"))?;
        readable("link", links.query_map([ends_after], |row| link_from(row, &makers))?)
    }

    /// Revokes a link; returns false if there is no link with that ID.
    pub fn revoke_link(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.connection().execute("UPDATE link SET revoked = 1 WHERE id = ?", [id])? == 1)
    }

    /// Deletes links that expired at least a day before `now`.
    pub fn forget_links(&self, now: i64) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        forget(&transaction, now - KEEP_EXPIRED)?;
        Ok(transaction.commit()?)
    }
}

impl LinkQuota {
    /// A user may have at most as many links as there is space left for others, so that users with few links still have space when those with many
    /// have filled it.
    fn has_room(self, db: &Connection, user: &UserName) -> rusqlite::Result<bool> {
        let count = |sql, params: &[&dyn rusqlite::ToSql]| db.prepare_cached(sql)?.query_row(params, |row| row.get(0));
        let all: u32 = count("SELECT count(*) FROM link", &[])?;
        let own: u32 = count("SELECT count(*) FROM link WHERE user = ?", &[&user.as_str()])?;
        Ok(own < self.per_user.min(self.in_all.saturating_sub(all)))
    }
}

fn forget(db: &Connection, expired_before: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM link WHERE expires < ?")?.execute([expired_before])?;
    db.prepare_cached("DELETE FROM link_maker WHERE id NOT IN (SELECT maker FROM link WHERE maker IS NOT NULL)")?
        .execute([])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, link: &LinkRecord) -> rusqlite::Result<()> {
    let maker = link.maker.as_ref().map(|maker| maker_id(transaction, maker)).transpose()?;
    transaction.execute(
        "INSERT INTO link (id, app, target, user, owner, maker, created, expires)
         VALUES (:id, :app, :target, :user, :owner, :maker, :created, :expires)",
        named_params! {
            ":id": link.id, ":app": link.app, ":target": link.target, ":user": link.user.as_str(),
            ":owner": link.owner.map(|id| id.0), ":maker": maker, ":created": link.created, ":expires": link.expires,
        },
    )?;
    Ok(())
}

fn maker_id(transaction: &Transaction<'_>, maker: &MakerRecord) -> rusqlite::Result<i64> {
    let MakerRecord { kind, name, proof } = maker;
    let mut known =
        transaction.prepare_cached("SELECT id FROM link_maker WHERE kind = ? AND name = ? AND proof = ?")?;
    if let Some(id) = known.query_row((kind, name, proof), |row| row.get(0)).optional()? {
        return Ok(id);
    }
    if let Some(id) = known_certificate(transaction, maker)? {
        transaction.execute("UPDATE link_maker SET proof = ? WHERE id = ?", (proof, id))?;
        return Ok(id);
    }
    transaction.execute("INSERT INTO link_maker (kind, name, proof) VALUES (?, ?, ?)", (kind, name, proof))?;
    Ok(transaction.last_insert_rowid())
}

/// Finds the maker for a certificate, which is identified by its fingerprint whatever chain it was presented with. The latest chain is kept.
fn known_certificate(db: &Connection, maker: &MakerRecord) -> rusqlite::Result<Option<i64>> {
    if maker.kind != CredentialKind::ClientCertificate.name() {
        return Ok(None);
    }
    let mut known = db.prepare_cached("SELECT id FROM link_maker WHERE kind = ? AND name = ? ORDER BY id LIMIT 1")?;
    known.query_row((&maker.kind, &maker.name), |row| row.get(0)).optional()
}

fn maker_from(row: &Row<'_>) -> rusqlite::Result<(i64, Arc<MakerRecord>)> {
    Ok((row.get(0)?, Arc::new(MakerRecord { kind: row.get(1)?, name: row.get(2)?, proof: row.get(3)? })))
}

fn link_from(row: &Row<'_>, makers: &Makers) -> rusqlite::Result<LinkRecord> {
    let maker = match row.get::<_, Option<i64>>(8)? {
        // Otherwise the link would be treated as one created by a command on this machine.
        Some(id) => Some(makers.get(&id).map(Arc::clone).ok_or(rusqlite::Error::IntegralValueOutOfRange(8, id))?),
        None => None,
    };
    Ok(LinkRecord {
        id: row.get(0)?,
        app: row.get(1)?,
        target: row.get(2)?,
        user: user_name(row, 3)?,
        created: row.get(4)?,
        expires: row.get(5)?,
        revoked: row.get(6)?,
        owner: row.get::<_, Option<i64>>(7)?.map(UserId),
        maker,
    })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    impl LinkRecord {
        /// A link created by a command.
        pub(in crate::store) fn of(
            id: &str,
            user: &UserName,
            owner: Option<UserId>,
            created: i64,
            expires: i64,
        ) -> Self {
            let id = id.to_owned();
            let app = "a".to_owned();
            let target = "/".to_owned();
            Self { id, app, target, user: user.clone(), owner, maker: None, created, expires, revoked: false }
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        (dir, store)
    }

    fn add(store: &Store, id: &str, user: &str, valid: Range<i64>, quota: LinkQuota) -> Added {
        store.add_link(&LinkRecord::of(id, &user.parse().unwrap(), None, valid.start, valid.end), quota).unwrap()
    }

    fn ids(store: &Store) -> Vec<String> {
        store.links().unwrap().into_iter().map(|link| link.id).collect()
    }

    #[test]
    fn a_users_links_are_limited_and_links_that_open_nothing_are_removed() {
        let (_dir, store) = store();
        let quota = LinkQuota { per_user: 2, in_all: 100 };
        assert_eq!(add(&store, "1", "ana", 10..20, quota), Added::Kept);
        assert_eq!(add(&store, "2", "ana", 10..90, quota), Added::Kept);
        assert_eq!(add(&store, "3", "ana", 15..90, quota), Added::TooMany);
        assert_eq!(add(&store, "4", "ben", 15..90, quota), Added::Kept, "another user has a quota of their own");
        assert_eq!(add(&store, "5", "ana", 21..90, quota), Added::Kept, "the first has expired");
        store.revoke_link("2").unwrap();
        assert_eq!(add(&store, "6", "ana", 22..90, quota), Added::Kept, "and the second was revoked");
        assert_eq!(ids(&store), ["4", "5", "6"]);
    }

    #[test]
    fn users_with_few_links_have_space_after_others_have_filled_it() {
        let (_dir, store) = store();
        let quota = LinkQuota { per_user: 50, in_all: 40 };
        let fill = |user: &str| {
            (0..50).filter(|n| add(&store, &format!("{user}{n}"), user, 1..9, quota) == Added::Kept).count()
        };
        assert_eq!([fill("ana"), fill("ben"), fill("eve"), fill("zoe")], [20, 10, 5, 3]);
        assert_eq!(add(&store, "x", "new", 1..9, quota), Added::Kept);
    }

    #[test]
    fn expired_links_and_their_makers_are_deleted_after_a_day() {
        let (_dir, store) = store();
        let maker = Arc::new(MakerRecord { kind: "api-key".into(), name: "k1".into(), proof: String::new() });
        for (id, expires) in [("1", 10), ("2", 20)] {
            let link = LinkRecord {
                maker: Some(maker.clone()),
                ..LinkRecord::of(id, &"ana".parse().unwrap(), None, 1, expires)
            };
            store.add_link(&link, LinkQuota { per_user: 9, in_all: 9 }).unwrap();
        }
        let makers = || store.connection().query_row("SELECT count(*) FROM link_maker", [], |row| row.get::<_, i64>(0));
        assert_eq!((makers().unwrap(), store.open_links(15).unwrap().len()), (1, 1));
        assert_eq!(store.links().unwrap()[0].maker.as_ref(), Some(&maker));
        store.forget_links(KEEP_EXPIRED + 15).unwrap();
        assert_eq!((ids(&store), makers().unwrap()), (vec!["2".to_owned()], 1));
        store.forget_links(KEEP_EXPIRED + 25).unwrap();
        assert_eq!((ids(&store).len(), makers().unwrap()), (0, 0));
    }

    #[test]
    fn a_certificate_is_one_maker_whatever_its_chain_and_the_latest_chain_is_kept() {
        let (_dir, store) = store();
        let made = |id: &str, kind: CredentialKind, proof: &str| {
            let maker = MakerRecord { kind: kind.name().into(), name: "n".into(), proof: proof.into() };
            let link = LinkRecord::of(id, &"ana".parse().unwrap(), None, 1, 9);
            let link = LinkRecord { maker: Some(Arc::new(maker)), ..link };
            store.add_link(&link, LinkQuota { per_user: 9, in_all: 99 }).unwrap();
        };
        for (id, proof) in [("1", "own a"), ("2", "own b"), ("3", "own b"), ("4", "own a")] {
            made(id, CredentialKind::ClientCertificate, proof);
        }
        made("5", CredentialKind::Jwt, "x");
        made("6", CredentialKind::Jwt, "y");
        let links = store.links().unwrap();
        let proofs: Vec<_> = links.iter().map(|link| &*link.maker.as_ref().unwrap().proof).collect();
        assert_eq!(proofs, ["own a", "own a", "own a", "own a", "x", "y"]);
        assert!(Arc::ptr_eq(links[0].maker.as_ref().unwrap(), links[3].maker.as_ref().unwrap()));
    }

    #[test]
    fn a_link_whose_maker_cannot_be_read_is_left_out() {
        let (_dir, store) = store();
        let maker = MakerRecord { kind: "api-key".into(), name: "k1".into(), proof: String::new() };
        let of = |id: &str| LinkRecord::of(id, &"ana".parse().unwrap(), None, 1, 9);
        store
            .add_link(&LinkRecord { maker: Some(Arc::new(maker)), ..of("1") }, LinkQuota { per_user: 9, in_all: 9 })
            .unwrap();
        add(&store, "2", "ana", 1..9, LinkQuota { per_user: 9, in_all: 9 });
        store.connection().pragma_update(None, "foreign_keys", false).unwrap();
        store.connection().execute("UPDATE link SET maker = 77 WHERE id = '1'", []).unwrap();
        assert_eq!(ids(&store), ["2"]);
    }
}
