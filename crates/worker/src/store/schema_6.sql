-- Of a playlist: how many of its videos are requested (0: all), how many it had, and how many of these have ended.
ALTER TABLE task ADD COLUMN list_extent INTEGER;
ALTER TABLE task ADD COLUMN list_total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN list_ended INTEGER NOT NULL DEFAULT 0;
-- Of a video of a playlist: the playlist, the index in it, and, if the video has no page of its own, its number on the playlist's page.
ALTER TABLE task ADD COLUMN list TEXT;
ALTER TABLE task ADD COLUMN list_index INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN list_item INTEGER;
CREATE INDEX task_list ON task (list);
-- Whose turn it is depends on how many tasks of each user are running or waiting.
CREATE INDEX task_owner_status ON task (owner, status);
