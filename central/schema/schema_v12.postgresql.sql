-- Central's state, version 12: as schema_v12.sqlite.sql.
CREATE TABLE journal_hour (
    gateway   TEXT NOT NULL,
    journal   TEXT NOT NULL,
    hour      BIGINT NOT NULL,
    first     BIGINT NOT NULL,
    last      BIGINT NOT NULL,
    thinned   BIGINT NOT NULL,
    duplicate BIGINT NOT NULL,
    PRIMARY KEY (gateway, journal, hour)
);
