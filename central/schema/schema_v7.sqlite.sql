-- central.db, version 7: the certificates that central's CA has given to gateways. `serial` is hexadecimal; `revoked_s` is none
-- while it counts. A certificate that was replaced by a renewal still counts until its end.
CREATE TABLE identity (
    serial      TEXT PRIMARY KEY,
    gateway     TEXT NOT NULL,
    commune     TEXT,
    issued_s    REAL NOT NULL,
    not_after_s REAL NOT NULL,
    revoked_s   REAL
) WITHOUT ROWID;
CREATE INDEX identity_gateway ON identity (gateway);
