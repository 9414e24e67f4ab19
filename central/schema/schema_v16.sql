-- Central's state, version 16: who is told, where several machines share the state (docs/adr/0013-recipients.md). Personal data: one JSON object
-- each, and nothing else refers to it but by the id.
CREATE TABLE recipient (
    id       TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    json     TEXT NOT NULL
);
