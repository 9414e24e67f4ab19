-- central.db, version 12: what came of each journal with readings of an hour (Unix hours, UTC): between which numbers they lie, how many
-- numbers were given up by thinning, how many came again. It dates the gaps.
CREATE TABLE journal_hour (
    gateway   TEXT NOT NULL,
    journal   TEXT NOT NULL,
    hour      INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    thinned   INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    PRIMARY KEY (gateway, journal, hour)
) WITHOUT ROWID;
