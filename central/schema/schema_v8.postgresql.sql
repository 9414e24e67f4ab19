-- Central's state, version 8: as schema_v8.sqlite.sql.
ALTER TABLE message ADD COLUMN text TEXT;
CREATE TABLE message_outcome (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message  TEXT NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT,
    via      TEXT,
    text     TEXT,
    at_s     DOUBLE PRECISION NOT NULL
);
CREATE TABLE message_cursor (position BIGINT NOT NULL);
INSERT INTO message_cursor VALUES (0);
CREATE FUNCTION message_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_outcome (message, state, reason, via, text, at_s)
    VALUES (NEW.id, NEW.state, NEW.reason, NEW.via, NEW.text, NEW.changed_s);
    RETURN NULL;
END $$;
CREATE TRIGGER message_ended AFTER UPDATE OF state ON message FOR EACH ROW
WHEN (NEW.state IN ('accepted', 'failed', 'unknown', 'dropped') AND NEW.state <> OLD.state)
EXECUTE FUNCTION message_ended();
