-- central.db, version 4: a dead letter that comes again is one row, also when it has no number.
UPDATE dead_letter SET payload = substr(payload, 1, 4096);
DELETE FROM dead_letter WHERE id NOT IN (
    SELECT min(id) FROM dead_letter GROUP BY topic, journal, number, reason, payload
);
CREATE UNIQUE INDEX dead_letter_once
    ON dead_letter (topic, COALESCE(journal, ''), COALESCE(number, -1), reason, payload);
