-- central.db, version 10: a message may go to a webhook.
CREATE TABLE message_next (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('alarm', 'clear', 'digest')),
    event      TEXT NOT NULL,
    occurrence TEXT,
    step       INTEGER NOT NULL,
    recipient  TEXT NOT NULL,
    channel    TEXT NOT NULL CHECK (channel IN ('sms', 'email', 'webhook')),
    level      INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'trying', 'accepted', 'failed', 'unknown', 'dropped')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    via        TEXT,
    reason     TEXT,
    created_s  REAL NOT NULL,
    changed_s  REAL NOT NULL,
    text       TEXT,
    UNIQUE (event, purpose, step, recipient, channel)
);
INSERT INTO message_next
SELECT id, purpose, event, occurrence, step, recipient, channel, level, state, attempts, via, reason, created_s, changed_s, text
FROM message;
DROP TABLE message;
ALTER TABLE message_next RENAME TO message;
CREATE INDEX message_pending ON message (channel) WHERE state IN ('waiting', 'trying');
CREATE INDEX message_occurrence ON message (occurrence);
CREATE TRIGGER message_ended AFTER UPDATE OF state ON message
WHEN NEW.state IN ('accepted', 'failed', 'unknown', 'dropped') AND NEW.state <> OLD.state
BEGIN
    INSERT INTO message_outcome (message, state, reason, via, text, at_s)
    VALUES (NEW.id, NEW.state, NEW.reason, NEW.via, NEW.text, NEW.changed_s);
END;
