-- Central's state, version 7: as schema_v7.sqlite.sql.
CREATE TABLE identity (
    serial      TEXT PRIMARY KEY,
    gateway     TEXT NOT NULL,
    commune     TEXT,
    issued_s    DOUBLE PRECISION NOT NULL,
    not_after_s DOUBLE PRECISION NOT NULL,
    revoked_s   DOUBLE PRECISION
);
CREATE INDEX identity_gateway ON identity (gateway);
