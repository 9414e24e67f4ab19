-- Central's state, version 11: as schema_v11.sqlite.sql.
CREATE TABLE configuration (
    gateway  TEXT NOT NULL,
    version  BIGINT NOT NULL,
    text     TEXT NOT NULL,
    author   TEXT NOT NULL,
    made_s   DOUBLE PRECISION NOT NULL,
    state    TEXT,
    why      TEXT NOT NULL DEFAULT '',
    result_s DOUBLE PRECISION,
    PRIMARY KEY (gateway, version)
);
