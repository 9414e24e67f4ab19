-- central.db, version 1: alarm log and notification. Schemas only grow: a change is a new file schema_v2.sql.
-- Times *_s are Unix seconds, UTC.

-- Every event as it came, in order of arrival. Never changed.
CREATE TABLE alarm_event (
    position   INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    source     TEXT NOT NULL,
    gateway    TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    occurrence TEXT NOT NULL,
    time_s     REAL NOT NULL,
    received_s REAL NOT NULL,
    json       TEXT NOT NULL
);
CREATE INDEX alarm_event_occurrence ON alarm_event (occurrence, seq);
CREATE INDEX alarm_event_seq ON alarm_event (source, gateway, seq);
CREATE TRIGGER alarm_event_kept BEFORE UPDATE ON alarm_event BEGIN SELECT RAISE(ABORT, 'alarm_event is append-only'); END;
CREATE TRIGGER alarm_event_stays BEFORE DELETE ON alarm_event BEGIN SELECT RAISE(ABORT, 'alarm_event is append-only'); END;

-- Events that ISA-18.2 does not allow after the one before them. Judged again when an event between them arrives late.
CREATE TABLE alarm_impossible (
    event  TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);

-- What the events of an occurrence come to. Derived, except for acknowledgements given here and reconciliation.
CREATE TABLE alarm_occurrence (
    occurrence   TEXT PRIMARY KEY,
    source       TEXT NOT NULL,
    gateway      TEXT NOT NULL,
    station      TEXT,
    rule         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    status       TEXT NOT NULL,
    state        TEXT NOT NULL,
    level        INTEGER NOT NULL,
    raised_s     REAL NOT NULL,
    changed_s    REAL NOT NULL,
    last_event   TEXT NOT NULL,
    last_seq     INTEGER NOT NULL,
    acked_by     TEXT,
    acked_s      REAL,
    reconciled_s REAL
);
CREATE INDEX alarm_occurrence_open ON alarm_occurrence (gateway) WHERE state <> 'NORMAL';

-- The notifier has planned every event up to here.
CREATE TABLE notify_cursor (position INTEGER NOT NULL);
INSERT INTO notify_cursor VALUES (0);

-- One escalation per occurrence. `step` counts the steps told for `event`, through all rounds. `stopped` says why nothing
-- more is told: acked, returned, shelved, done, nobody.
CREATE TABLE escalation (
    occurrence TEXT PRIMARY KEY,
    event      TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    level      INTEGER NOT NULL,
    step       INTEGER NOT NULL DEFAULT 0,
    next_s     REAL,
    stopped    TEXT
);
CREATE INDEX escalation_running ON escalation (next_s) WHERE stopped IS NULL;

-- The outbox. `trying` is the intent, written before the provider hears of the message.
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('alarm', 'clear', 'digest')),
    event      TEXT NOT NULL,
    occurrence TEXT,
    step       INTEGER NOT NULL,
    recipient  TEXT NOT NULL,
    channel    TEXT NOT NULL CHECK (channel IN ('sms', 'email')),
    level      INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'trying', 'accepted', 'failed', 'unknown', 'dropped')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    via        TEXT,
    reason     TEXT,
    created_s  REAL NOT NULL,
    changed_s  REAL NOT NULL,
    UNIQUE (event, purpose, step, recipient, channel)
);
CREATE INDEX message_pending ON message (channel) WHERE state IN ('waiting', 'trying');
CREATE INDEX message_occurrence ON message (occurrence);

-- What each event's second receipt said: true, false or none.
CREATE TABLE notifying (
    event   TEXT PRIMARY KEY,
    outcome TEXT NOT NULL
);

-- A link in a mail. Only the token's SHA-256 is kept.
CREATE TABLE ack_token (
    hash       BLOB PRIMARY KEY,
    message    TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    used_s     REAL
);

-- Occurrences that had returned before anybody was told. `digest` is the mail that told of them.
CREATE TABLE digest_item (
    occurrence TEXT PRIMARY KEY,
    added_s    REAL NOT NULL,
    digest     TEXT
);
