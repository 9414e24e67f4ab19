-- central.db, version 2: what came over MQTT and could not be stored, or not yet; what gateways say of themselves.

-- Refused for good, kept for a person. `number` is the reading's number in the gateway's journal, if it has one.
CREATE TABLE dead_letter (
    id         INTEGER PRIMARY KEY,
    received_s REAL NOT NULL,
    topic      TEXT NOT NULL,
    journal    TEXT,
    number     INTEGER,
    reason     TEXT NOT NULL,
    payload    BLOB NOT NULL,
    UNIQUE (topic, journal, number, reason)
);

-- Readings of a station or sensor that is not registered yet; stored when it is.
CREATE TABLE quarantine (
    id         INTEGER PRIMARY KEY,
    received_s REAL NOT NULL,
    gateway    TEXT NOT NULL,
    journal    TEXT,
    number     INTEGER,
    name       TEXT NOT NULL,
    record     TEXT NOT NULL,
    estimated  INTEGER NOT NULL,
    UNIQUE (gateway, journal, number)
);

-- The last `stations` and `status` of each gateway, as published.
CREATE TABLE gateway (
    gateway  TEXT PRIMARY KEY,
    stations TEXT,
    status   TEXT,
    status_s REAL
);
