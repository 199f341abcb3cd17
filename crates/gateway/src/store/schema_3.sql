-- Users get an ID of their own, which is never reused, and keys refer to the ID.
CREATE TABLE new_user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password_hash TEXT,
    created INTEGER NOT NULL,
    -- 1 if an earlier user had the same name.
    reused INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO new_user (name, role, password_hash, created)
    SELECT name, role, password_hash, created FROM user ORDER BY created, rowid;
CREATE TABLE new_api_key (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    imported INTEGER NOT NULL,
    user INTEGER NOT NULL REFERENCES new_user (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    note TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    last_used INTEGER
) STRICT;
INSERT INTO new_api_key (id, hash, imported, user, scopes, note, created, expires, last_used)
    SELECT k.id, k.hash, k.imported, u.id, k.scopes, k.note, k.created, k.expires, k.last_used
    FROM api_key k JOIN new_user u ON u.name = k.user ORDER BY k.rowid;
DROP TABLE api_key;
DROP TABLE user;
ALTER TABLE new_user RENAME TO user;
ALTER TABLE new_api_key RENAME TO api_key;
CREATE INDEX api_key_by_user ON api_key (user);
-- When a user of this name was last removed.
CREATE TABLE removed_user (
    name TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
-- The credentials that created links, one row each.
CREATE TABLE link_maker (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    proof TEXT NOT NULL,
    UNIQUE (kind, name, proof)
) STRICT;
-- The ID of the link's user, if there was one, and the link's maker; NULL for a command on this machine.
ALTER TABLE link ADD COLUMN owner INTEGER;
ALTER TABLE link ADD COLUMN maker INTEGER REFERENCES link_maker (id);
UPDATE link SET owner = (SELECT id FROM user WHERE user.name = link.user);
CREATE INDEX link_by_user ON link (user);
CREATE INDEX link_by_maker ON link (maker);
