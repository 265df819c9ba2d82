-- Open sessions, as auth told of them when they began: a token of any other session opens nothing. `mac` covers every other
-- column.
CREATE TABLE sessions (
    id            TEXT   NOT NULL PRIMARY KEY,
    account       TEXT   NOT NULL,
    opened_at_ms  BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    mac           BYTEA  NOT NULL
);
CREATE INDEX sessions_by_end ON sessions (expires_at_ms);
