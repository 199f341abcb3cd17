-- What keys that were revoked hash to, the last 10,000 of them, so that a client that still sends one does not count as guessing.
CREATE TABLE revoked_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE
) STRICT;
-- A trigger, because keys go with their user as well.
CREATE TRIGGER api_key_revoked AFTER DELETE ON api_key BEGIN
    INSERT OR REPLACE INTO revoked_key (hash) VALUES (OLD.hash);
    DELETE FROM revoked_key WHERE id <= (SELECT max(id) FROM revoked_key) - 10000;
END;
