-- Alarm log of a gateway, version 1. Append-only file: a later version is a new file.

CREATE TABLE event (
    seq       INTEGER PRIMARY KEY,          -- the gateway's gapless event counter
    id        TEXT NOT NULL UNIQUE,         -- UUIDv7
    occurrence TEXT NOT NULL,
    rule      TEXT NOT NULL,
    payload   TEXT NOT NULL,                -- the event as published
    boot_id   TEXT NOT NULL,
    boot_s    REAL NOT NULL,                -- boot time of the transition
    received  INTEGER NOT NULL DEFAULT 0,   -- central's first receipt came
    notifying TEXT                          -- central's second receipt: true, false, none
);
CREATE INDEX event_waiting ON event (seq) WHERE received = 0;
CREATE INDEX event_occurrence ON event (occurrence, seq);

CREATE TABLE rule_state (
    rule  TEXT PRIMARY KEY,
    state TEXT NOT NULL                     -- JSON of edge.rules
);

CREATE TABLE progress (                     -- one row: how far the readings were judged, and when
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    judged  INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    boot_s  REAL NOT NULL,
    wall_s  REAL NOT NULL
);

CREATE TABLE sms (                          -- written before the modem is asked: an SMS is never repeated
    event     TEXT NOT NULL,                -- the raise or escalate that it tells
    recipient TEXT NOT NULL,
    result    TEXT NOT NULL,                -- trying, sent, failed, unknown
    at        TEXT NOT NULL,
    PRIMARY KEY (event, recipient)
);
