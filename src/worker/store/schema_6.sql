-- Of a list: how many of its films are wanted (0: all), how many it had, and how many of these have ended.
ALTER TABLE task ADD COLUMN list_extent INTEGER;
ALTER TABLE task ADD COLUMN list_total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN list_ended INTEGER NOT NULL DEFAULT 0;
-- Of a film of a list: which list, the place in it, and which of its page's it is, where it has no page of its own.
ALTER TABLE task ADD COLUMN list TEXT;
ALTER TABLE task ADD COLUMN list_index INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN list_item INTEGER;
CREATE INDEX task_list ON task (list);
-- Whose turn it is depends on how much of each user's is under way or waits.
CREATE INDEX task_owner_status ON task (owner, status);
