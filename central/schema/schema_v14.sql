-- Central's state, version 14: the occurrence of central's own that tells people of this one and of others, in one message.
ALTER TABLE escalation ADD COLUMN storm TEXT;
CREATE INDEX escalation_storm ON escalation (storm) WHERE storm IS NOT NULL;
