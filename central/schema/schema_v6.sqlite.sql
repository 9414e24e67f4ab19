-- central.db, version 6: what people want of an alarm and its owner has not confirmed yet: a shelf (`until_s` its end, none to
-- end one) or a reset. One of each per occurrence, the newest. Events after `position` confirm; after `end_s` it is void.
CREATE TABLE wish (
    occurrence TEXT NOT NULL,
    command    TEXT NOT NULL CHECK (command IN ('shelve', 'reset')),
    by         TEXT NOT NULL,
    at_s       REAL NOT NULL,
    until_s    REAL,
    why        TEXT,
    end_s      REAL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (occurrence, command)
) WITHOUT ROWID;
