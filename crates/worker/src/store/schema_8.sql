-- Whether an earlier attempt found its source announced. A live source is then waited for; one that is live at the first attempt is refused.
ALTER TABLE task ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
UPDATE task SET announced = 1 WHERE status = 'pending' AND error_message LIKE 'announced: %';
