-- central.db, version 8: the words of a message as a provider last heard them (of a mail the subject), and what became of each, in
-- order, as the `message` series of the time-series database is copied from it.
ALTER TABLE message ADD COLUMN text TEXT;
CREATE TABLE message_outcome (
    position INTEGER PRIMARY KEY,
    message  TEXT NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT,
    via      TEXT,
    text     TEXT,
    at_s     REAL NOT NULL
);
CREATE TABLE message_cursor (position INTEGER NOT NULL);
INSERT INTO message_cursor VALUES (0);
CREATE TRIGGER message_ended AFTER UPDATE OF state ON message
WHEN NEW.state IN ('accepted', 'failed', 'unknown', 'dropped') AND NEW.state <> OLD.state
BEGIN
    INSERT INTO message_outcome (message, state, reason, via, text, at_s)
    VALUES (NEW.id, NEW.state, NEW.reason, NEW.via, NEW.text, NEW.changed_s);
END;
