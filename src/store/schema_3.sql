-- Users have a number of their own, which nobody gets after them, and keys belong to the number.
CREATE TABLE new_user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password_hash TEXT,
    created INTEGER NOT NULL,
    -- 1 where somebody had the name before.
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
-- When a name was last taken from a user.
CREATE TABLE removed_user (
    name TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
-- The credentials that links were made with, once each.
CREATE TABLE link_maker (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    proof TEXT NOT NULL,
    UNIQUE (kind, name, proof)
) STRICT;
-- Of a link: its user's number, where there was one, and its maker; NULL: a command on this machine.
ALTER TABLE link ADD COLUMN owner INTEGER;
ALTER TABLE link ADD COLUMN maker INTEGER REFERENCES link_maker (id);
UPDATE link SET owner = (SELECT id FROM user WHERE user.name = link.user);
CREATE INDEX link_by_user ON link (user);
CREATE INDEX link_by_maker ON link (maker);
