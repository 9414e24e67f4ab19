-- Central's state, version 10: a message may go to a webhook.
ALTER TABLE message DROP CONSTRAINT message_channel_check;
ALTER TABLE message ADD CONSTRAINT message_channel_check CHECK (channel IN ('sms', 'email', 'webhook'));
