-- Central's state, version 17: what technicians ordered of gateways (read, raw, logs, restart), and the answers. Kept for ever.
CREATE TABLE gateway_order (
    id         TEXT PRIMARY KEY,
    gateway    TEXT NOT NULL,
    command    TEXT NOT NULL,
    arguments  TEXT NOT NULL,
    author     TEXT NOT NULL,
    asked_s    DOUBLE PRECISION NOT NULL,
    until_s    DOUBLE PRECISION NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'done', 'refused', 'expired')),
    answer     TEXT,
    answered_s DOUBLE PRECISION
);
CREATE INDEX gateway_order_waiting ON gateway_order (asked_s) WHERE state = 'waiting';
