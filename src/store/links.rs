//! Signed links that were made: whose they are, what they were made with, and whether they were revoked.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params};

use super::{
    Store, StoreError,
    users::{readable, user_name},
};
use crate::{identity::UserId, username::UserName};

/// An expired link stays on the list for so long, in seconds, where there is room.
const KEEP_EXPIRED: i64 = 86_400;

/// A link that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRecord {
    /// Its id, part of the URL.
    pub id: String,
    /// The application that it leads to.
    pub app: String,
    /// Path and query that it opens, for people; the signature covers the whole, and this may be cut.
    pub target: String,
    /// In whose name it acts.
    pub user: UserName,
    /// The number of that user; None for somebody who was not on the list.
    pub owner: Option<UserId>,
    /// The credential that it was made with; None for a command on this machine.
    pub maker: Option<MakerRecord>,
    /// When it was made, in Unix seconds.
    pub created: i64,
    /// When it stops working.
    pub expires: i64,
    /// True when it was revoked.
    pub revoked: bool,
}

/// A credential that links were made with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MakerRecord {
    /// The name of its kind.
    pub kind: String,
    /// Its id; empty where it has none.
    pub name: String,
    /// What must hold for it to hold.
    pub proof: String,
}

/// How many links there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkQuota {
    /// In one user's name.
    pub per_user: u32,
    /// In all.
    pub in_all: u32,
}

/// What became of a link that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is kept.
    Kept,
    /// There are too many already.
    TooMany,
}

const SELECT: &str =
    "SELECT l.id, l.app, l.target, l.user, l.created, l.expires, l.revoked, l.owner, m.kind, m.name, m.proof
    FROM link l LEFT JOIN link_maker m ON m.id = l.maker";

impl Store {
    /// Keeps a link where the quota has room. Links that open nothing any more make room for it.
    pub fn add_link(&self, link: &LinkRecord, quota: LinkQuota) -> Result<Added, StoreError> {
        let mut connection = self.connection();
        // Counted and added without anybody in between.
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

    /// Every link that is kept, oldest first; one that cannot be read is left out.
    pub fn links(&self) -> Result<Vec<LinkRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(&format!("{SELECT} ORDER BY l.created, l.rowid"))?;
        readable("link", statement.query_map([], link_from)?)
    }

    /// Every link that is kept and has neither expired at `now` nor been revoked.
    pub fn open_links(&self, now: i64) -> Result<Vec<LinkRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE l.expires >= ? AND l.revoked = 0"))?;
        readable("link", statement.query_map([now], link_from)?)
    }

    /// Revokes a link; false where there is none of that id.
    pub fn revoke_link(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.connection().execute("UPDATE link SET revoked = 1 WHERE id = ?", [id])? == 1)
    }

    /// Forgets links that expired a day before `now` or earlier.
    pub fn forget_links(&self, now: i64) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        forget(&transaction, now - KEEP_EXPIRED)?;
        Ok(transaction.commit()?)
    }
}

impl LinkQuota {
    /// A user may have as many as there is room for others at most, so that those with few find room when those with many
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
    transaction.execute("INSERT INTO link_maker (kind, name, proof) VALUES (?, ?, ?)", (kind, name, proof))?;
    Ok(transaction.last_insert_rowid())
}

fn link_from(row: &Row<'_>) -> rusqlite::Result<LinkRecord> {
    let maker = match row.get(8)? {
        Some(kind) => Some(MakerRecord { kind, name: row.get(9)?, proof: row.get(10)? }),
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
    use super::*;

    impl LinkRecord {
        /// One that a command has made.
        pub(in crate::store) fn of(
            id: &str,
            user: &UserName,
            owner: Option<UserId>,
            created: i64,
            expires: i64,
        ) -> Self {
            let (id, app, target) = (id.to_owned(), "a".to_owned(), "/".to_owned());
            Self { id, app, target, user: user.clone(), owner, maker: None, created, expires, revoked: false }
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).unwrap();
        (dir, store)
    }

    fn add(store: &Store, id: &str, user: &str, times: (i64, i64), quota: LinkQuota) -> Added {
        store.add_link(&LinkRecord::of(id, &user.parse().unwrap(), None, times.0, times.1), quota).unwrap()
    }

    fn ids(store: &Store) -> Vec<String> {
        store.links().unwrap().into_iter().map(|link| link.id).collect()
    }

    #[test]
    fn a_user_has_so_many_links_and_what_opens_nothing_makes_room() {
        let (_dir, store) = store();
        let quota = LinkQuota { per_user: 2, in_all: 100 };
        assert_eq!(add(&store, "1", "ana", (10, 20), quota), Added::Kept);
        assert_eq!(add(&store, "2", "ana", (10, 90), quota), Added::Kept);
        assert_eq!(add(&store, "3", "ana", (15, 90), quota), Added::TooMany);
        assert_eq!(add(&store, "4", "ben", (15, 90), quota), Added::Kept, "another user has room of his own");
        assert_eq!(add(&store, "5", "ana", (21, 90), quota), Added::Kept, "the first has expired");
        store.revoke_link("2").unwrap();
        assert_eq!(add(&store, "6", "ana", (22, 90), quota), Added::Kept, "and the second was revoked");
        assert_eq!(ids(&store), ["4", "5", "6"]);
    }

    #[test]
    fn whoever_has_few_finds_room_when_others_have_filled_it() {
        let (_dir, store) = store();
        let quota = LinkQuota { per_user: 50, in_all: 40 };
        let fill = |user: &str| {
            (0..50).filter(|n| add(&store, &format!("{user}{n}"), user, (1, 9), quota) == Added::Kept).count()
        };
        assert_eq!([fill("ana"), fill("ben"), fill("eve"), fill("zoe")], [20, 10, 5, 3]);
        assert_eq!(add(&store, "x", "new", (1, 9), quota), Added::Kept);
    }

    #[test]
    fn expired_links_go_after_a_day_with_what_they_were_made_with() {
        let (_dir, store) = store();
        let maker = MakerRecord { kind: "api-key".into(), name: "k1".into(), proof: String::new() };
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
}
