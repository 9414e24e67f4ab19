-- Alarm log of a gateway, version 2: what is looked at every second is found without reading the whole log.

CREATE TABLE standing (                     -- occurrences whose last event left them in another state than NORMAL
    occurrence TEXT PRIMARY KEY
) WITHOUT ROWID;

INSERT INTO standing
    SELECT occurrence FROM event
    WHERE seq IN (SELECT max(seq) FROM event GROUP BY occurrence) AND json_extract(payload, '$.state') <> 'NORMAL';

CREATE TRIGGER event_standing AFTER INSERT ON event BEGIN
    DELETE FROM standing WHERE occurrence = NEW.occurrence;
    INSERT INTO standing SELECT NEW.occurrence WHERE json_extract(NEW.payload, '$.state') <> 'NORMAL';
END;
