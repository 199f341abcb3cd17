-- Hashes of the last 10,000 revoked keys, so that a client that still sends one of them does not count as guessing.
CREATE TABLE revoked_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE
) STRICT;
-- A trigger, because keys are also deleted together with their user.
CREATE TRIGGER api_key_revoked AFTER DELETE ON api_key BEGIN
    INSERT OR REPLACE INTO revoked_key (hash) VALUES (OLD.hash);
    DELETE FROM revoked_key WHERE id <= (SELECT max(id) FROM revoked_key) - 10000;
END;
