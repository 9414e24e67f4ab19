-- central.db, version 3: how far the alarm log has been copied into the `alarm` series of the time-series database.
CREATE TABLE series_cursor (position INTEGER NOT NULL);
INSERT INTO series_cursor VALUES (0);
CREATE INDEX alarm_event_time ON alarm_event (time_s);
