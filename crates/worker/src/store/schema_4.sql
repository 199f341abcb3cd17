-- The number of failed attempts with a transient reason, and the time (Unix time in milliseconds) from which it may be retried.
ALTER TABLE task ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
-- -1 low, 0 normal, 1 high
ALTER TABLE task ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
-- When each user had their last turn, counted in turns.
CREATE TABLE turn (
    owner TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
