CREATE TABLE task (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    url TEXT NOT NULL,
    quality TEXT NOT NULL,
    download_type TEXT NOT NULL,
    format TEXT,
    status TEXT NOT NULL,
    title TEXT NOT NULL DEFAULT '',
    format_note TEXT NOT NULL DEFAULT '',
    filesize INTEGER NOT NULL DEFAULT 0,
    extension TEXT,
    has_thumbnail INTEGER NOT NULL DEFAULT 0,
    error_message TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    completed_at TEXT
) STRICT;
CREATE INDEX task_status ON task (status, sequence);
CREATE INDEX task_owner ON task (owner, sequence);
