-- Central's state, version 13: who may use the page, who is signed in, and which programs may ask. Passwords, sessions and tokens
-- are kept as hashes only.
CREATE TABLE account (
    name      TEXT PRIMARY KEY,
    role      TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator')),
    password  TEXT NOT NULL,
    disabled  INTEGER NOT NULL DEFAULT 0,
    created_s DOUBLE PRECISION NOT NULL
);
CREATE TABLE web_session (
    hash    TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (name),
    csrf    TEXT NOT NULL,
    begun_s DOUBLE PRECISION NOT NULL,
    seen_s  DOUBLE PRECISION NOT NULL
);
CREATE TABLE api_token (
    id        TEXT PRIMARY KEY,
    hash      TEXT NOT NULL UNIQUE,
    scope     TEXT NOT NULL CHECK (scope IN ('read', 'webhook', 'cap')),
    created_s DOUBLE PRECISION NOT NULL,
    end_s     DOUBLE PRECISION NOT NULL
);
