-- central.db, version 5: which numbers of each gateway's journal are here (stored, rejected, held) or were given up, by the
-- day (Unix day, UTC) on which that became known; day 0 is all that is older than the days a gateway keeps.
CREATE TABLE journal_range (
    gateway TEXT NOT NULL,
    journal TEXT NOT NULL,
    day     INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    PRIMARY KEY (gateway, journal, day, first)
) WITHOUT ROWID;
