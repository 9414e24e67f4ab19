-- central.db, version 11: every configuration that was sent to a gateway, and what the gateway said of it. `author` is who pushed
-- it. Times *_s are Unix seconds.
CREATE TABLE configuration (
    gateway  TEXT NOT NULL,
    version  INTEGER NOT NULL,
    text     TEXT NOT NULL,
    author   TEXT NOT NULL,
    made_s   REAL NOT NULL,
    state    TEXT,
    why      TEXT NOT NULL DEFAULT '',
    result_s REAL,
    PRIMARY KEY (gateway, version)
) WITHOUT ROWID;
