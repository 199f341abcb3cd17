-- Whether its source was announced when it was looked at. What is live then is waited for; what is live at the first look is refused.
ALTER TABLE task ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
UPDATE task SET announced = 1 WHERE status = 'pending' AND error_message LIKE 'announced: %';
