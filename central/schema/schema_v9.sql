-- central.db, version 9: every sensor that a gateway has ever described. What it measured may come long after its gateway has
-- another configuration.
CREATE TABLE described_sensor (
    gateway TEXT NOT NULL,
    station TEXT NOT NULL,
    sensor  TEXT NOT NULL,
    PRIMARY KEY (gateway, station, sensor)
) WITHOUT ROWID;
