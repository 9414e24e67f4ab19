-- Alarm log of a gateway, version 3: what the network reports of an SMS that it took. In `sms`, `result` may also be `waiting`:
-- the modem or the network did not take it, so it is tried again.

ALTER TABLE sms ADD COLUMN unreported TEXT; -- JSON: message references of the parts that no final report has come of
ALTER TABLE sms ADD COLUMN report TEXT;     -- delivered, failed, unknown; NULL while none has come and none is overdue
CREATE INDEX sms_unreported ON sms (recipient, at) WHERE unreported IS NOT NULL;
