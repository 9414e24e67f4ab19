BEGIN TRANSACTION;
CREATE TABLE ack_token (
    hash       BLOB PRIMARY KEY,
    message    TEXT NOT NULL,
    occurrence TEXT NOT NULL,
    used_s     REAL
);
INSERT INTO "ack_token" VALUES(X'C8F58B18B4D6DFD9966C398FBA2782566CC64D80AFA6F83463BDA870FADCD2D5','019f5eaf-b000-74b0-acbb-56b8d3c636ab','019f5eaf-b000-7e42-bc50-e033d591b8bf',NULL);
CREATE TABLE alarm_event (
    position   INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    source     TEXT NOT NULL,
    gateway    TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    occurrence TEXT NOT NULL,
    time_s     REAL NOT NULL,
    received_s REAL NOT NULL,
    json       TEXT NOT NULL
);
INSERT INTO "alarm_event" VALUES(1,'019f5eaf-b3e8-72b3-b40a-6f0e8598cadb','gateway','gw-huy-01',1,'019f5eaf-b000-7e42-bc50-e033d591b8bf',1784000000.0,1784000000.0,'{"id":"019f5eaf-b3e8-72b3-b40a-6f0e8598cadb","occurrence":"019f5eaf-b000-7e42-bc50-e033d591b8bf","seq":1,"source":"gateway","gateway":"gw-huy-01","station":"hoyoux-huy","sensor":"level-1","quantity":"water_level","rule":"hoyoux-high","kind":"high","transition":"raise","state":"UNACK","level":2,"value":1.84,"unit":"m","threshold":1.8,"trend_per_h":null,"next_level_at":null,"time":"2026-07-14T03:33:20.000+00:00","clock":"synchronised","data_lost":false,"status":"Actual","by":null,"until":null,"note":null,"notified":[],"withheld":null,"mean_h":null}');
CREATE TABLE alarm_impossible (
    event  TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
CREATE TABLE alarm_occurrence (
    occurrence   TEXT PRIMARY KEY,
    source       TEXT NOT NULL,
    gateway      TEXT NOT NULL,
    station      TEXT,
    rule         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    status       TEXT NOT NULL,
    state        TEXT NOT NULL,
    level        INTEGER NOT NULL,
    raised_s     REAL NOT NULL,
    changed_s    REAL NOT NULL,
    last_event   TEXT NOT NULL,
    last_seq     INTEGER NOT NULL,
    acked_by     TEXT,
    acked_s      REAL,
    reconciled_s REAL
);
INSERT INTO "alarm_occurrence" VALUES('019f5eaf-b000-7e42-bc50-e033d591b8bf','gateway','gw-huy-01','hoyoux-huy','hoyoux-high','high','Actual','UNACK',2,1784000000.0,1784000000.0,'019f5eaf-b3e8-72b3-b40a-6f0e8598cadb',1,NULL,NULL,NULL);
CREATE TABLE dead_letter (
    id         INTEGER PRIMARY KEY,
    received_s REAL NOT NULL,
    topic      TEXT NOT NULL,
    journal    TEXT,
    number     INTEGER,
    reason     TEXT NOT NULL,
    payload    BLOB NOT NULL,
    UNIQUE (topic, journal, number, reason)
);
INSERT INTO "dead_letter" VALUES(1,1784000000.0,'maillages/v1/gw-huy-01/readings','j',7,'v is null',X'00FF5B7B2276223A6E756C6C7D5D');
CREATE TABLE digest_item (
    occurrence TEXT PRIMARY KEY,
    added_s    REAL NOT NULL,
    digest     TEXT
);
CREATE TABLE escalation (
    occurrence TEXT PRIMARY KEY,
    event      TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    level      INTEGER NOT NULL,
    step       INTEGER NOT NULL DEFAULT 0,
    next_s     REAL,
    stopped    TEXT
);
INSERT INTO "escalation" VALUES('019f5eaf-b000-7e42-bc50-e033d591b8bf','019f5eaf-b3e8-72b3-b40a-6f0e8598cadb',1,2,1,1784000300.0,NULL);
CREATE TABLE gateway (
    gateway  TEXT PRIMARY KEY,
    stations TEXT,
    status   TEXT,
    status_s REAL
);
INSERT INTO "gateway" VALUES('gw-huy-01',NULL,'{"online":false,"boot":"b-1","version":"0.1.0","since":"2026-07-14T12:00:00.000+00:00"}',1784000000.0);
CREATE TABLE journal_range (
    gateway TEXT NOT NULL,
    journal TEXT NOT NULL,
    day     INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    PRIMARY KEY (gateway, journal, day, first)
) WITHOUT ROWID;
INSERT INTO "journal_range" VALUES('gw-huy-01','j',20648,1,100);
INSERT INTO "journal_range" VALUES('gw-huy-01','j',20648,105,120);
CREATE TABLE message (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('alarm', 'clear', 'digest')),
    event      TEXT NOT NULL,
    occurrence TEXT,
    step       INTEGER NOT NULL,
    recipient  TEXT NOT NULL,
    channel    TEXT NOT NULL CHECK (channel IN ('sms', 'email')),
    level      INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'trying', 'accepted', 'failed', 'unknown', 'dropped')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    via        TEXT,
    reason     TEXT,
    created_s  REAL NOT NULL,
    changed_s  REAL NOT NULL,
    UNIQUE (event, purpose, step, recipient, channel)
);
INSERT INTO "message" VALUES('019f5eaf-b000-7706-a063-823c46e0535a','alarm','019f5eaf-b3e8-72b3-b40a-6f0e8598cadb','019f5eaf-b000-7e42-bc50-e033d591b8bf',1,'planu','sms',2,'accepted',1,'sms.0 127.0.0.1',NULL,1784000000.0,1784000000.0);
INSERT INTO "message" VALUES('019f5eaf-b000-74b0-acbb-56b8d3c636ab','alarm','019f5eaf-b3e8-72b3-b40a-6f0e8598cadb','019f5eaf-b000-7e42-bc50-e033d591b8bf',1,'planu','email',2,'accepted',1,'smtp',NULL,1784000000.0,1784000000.0);
CREATE TABLE notify_cursor (position INTEGER NOT NULL);
INSERT INTO "notify_cursor" VALUES(1);
CREATE TABLE notifying (
    event   TEXT PRIMARY KEY,
    outcome TEXT NOT NULL
);
INSERT INTO "notifying" VALUES('019f5eaf-b3e8-72b3-b40a-6f0e8598cadb','true');
CREATE TABLE quarantine (
    id         INTEGER PRIMARY KEY,
    received_s REAL NOT NULL,
    gateway    TEXT NOT NULL,
    journal    TEXT,
    number     INTEGER,
    name       TEXT NOT NULL,
    record     TEXT NOT NULL,
    estimated  INTEGER NOT NULL,
    UNIQUE (gateway, journal, number)
);
INSERT INTO "quarantine" VALUES(1,1784000000.0,'gw-huy-01','j',1,'h-huy/level-9/water_level','{"v": 0.0, "u": "m", "t": 1784000000.0, "qc": 1}',0);
INSERT INTO "quarantine" VALUES(2,1784000000.0,'gw-huy-01','j',2,'h-huy/level-9/water_level','{"v": 0.0, "u": "m", "t": 1784000000.0, "qc": 1}',1);
CREATE TABLE series_cursor (position INTEGER NOT NULL);
INSERT INTO "series_cursor" VALUES(1);
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
INSERT INTO "wish" VALUES('019f5eaf-b000-7e42-bc50-e033d591b8bf','shelve','planu',1784000000.0,1784003600.0,'travaux',1784003600.0,1);
CREATE INDEX alarm_event_occurrence ON alarm_event (occurrence, seq);
CREATE INDEX alarm_event_seq ON alarm_event (source, gateway, seq);
CREATE TRIGGER alarm_event_kept BEFORE UPDATE ON alarm_event BEGIN SELECT RAISE(ABORT, 'alarm_event is append-only'); END;
CREATE TRIGGER alarm_event_stays BEFORE DELETE ON alarm_event BEGIN SELECT RAISE(ABORT, 'alarm_event is append-only'); END;
CREATE INDEX alarm_occurrence_open ON alarm_occurrence (gateway) WHERE state <> 'NORMAL';
CREATE INDEX escalation_running ON escalation (next_s) WHERE stopped IS NULL;
CREATE INDEX message_pending ON message (channel) WHERE state IN ('waiting', 'trying');
CREATE INDEX message_occurrence ON message (occurrence);
CREATE INDEX alarm_event_time ON alarm_event (time_s);
CREATE UNIQUE INDEX dead_letter_once
    ON dead_letter (topic, COALESCE(journal, ''), COALESCE(number, -1), reason, payload);
PRAGMA user_version = 6;
COMMIT;
