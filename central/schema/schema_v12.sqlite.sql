-- central.db, version 12: which numbers of a journal were measured on which day (ISO date, Belgium): the lowest and highest that
-- came, how many came in all (again and again counts), and how many were given up by thinning.
CREATE TABLE journal_day (
    gateway  TEXT NOT NULL,
    journal  TEXT NOT NULL,
    day      TEXT NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    received INTEGER NOT NULL,
    thinned  INTEGER NOT NULL,
    PRIMARY KEY (gateway, journal, day)
) WITHOUT ROWID;
