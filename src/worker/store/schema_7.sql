-- The largest file, in bytes, that its owner might have when it was ordered.
ALTER TABLE task ADD COLUMN max_filesize INTEGER;
-- What the gateway allowed each user with his newest order: downloads at a time, and that wait. NULL: as many as the worker allows.
ALTER TABLE turn ADD COLUMN at_a_time INTEGER;
ALTER TABLE turn ADD COLUMN waiting INTEGER;
