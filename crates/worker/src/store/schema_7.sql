-- The largest file, in bytes, that its owner was allowed when the download was requested.
ALTER TABLE task ADD COLUMN max_filesize INTEGER;
-- What the gateway allowed each user with their newest request: concurrent and waiting downloads. NULL: as many as the worker allows.
ALTER TABLE turn ADD COLUMN at_a_time INTEGER;
ALTER TABLE turn ADD COLUMN waiting INTEGER;
