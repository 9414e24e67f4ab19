-- Central's state, version 15: under which name a provider reports what became of a message that it took.
ALTER TABLE message ADD COLUMN reference TEXT;
CREATE INDEX message_reference ON message (reference) WHERE reference IS NOT NULL;
