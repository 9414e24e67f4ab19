-- Central's state, version 9: as schema_v9.sqlite.sql.
CREATE TABLE described_sensor (
    gateway TEXT NOT NULL,
    station TEXT NOT NULL,
    sensor  TEXT NOT NULL,
    PRIMARY KEY (gateway, station, sensor)
);
