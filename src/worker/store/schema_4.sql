-- How often it failed for a passing reason, and since when (milliseconds of the Unix clock) it may be tried again.
ALTER TABLE task ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
-- -1 low, 0 normal, 1 high
ALTER TABLE task ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
-- When each user had his last turn, counted in turns.
CREATE TABLE turn (
    owner TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
