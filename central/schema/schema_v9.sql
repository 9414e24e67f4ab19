-- central.db, version 9: the configurations that central sends to gateways, what became of each, and when it was last sent.
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
);
