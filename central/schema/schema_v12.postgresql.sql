-- Central's state, version 12: as schema_v12.sqlite.sql.
CREATE TABLE journal_day (
    gateway  TEXT NOT NULL,
    journal  TEXT NOT NULL,
    day      TEXT NOT NULL,
    first    BIGINT NOT NULL,
    last     BIGINT NOT NULL,
    received BIGINT NOT NULL,
    thinned  BIGINT NOT NULL,
    PRIMARY KEY (gateway, journal, day)
);
