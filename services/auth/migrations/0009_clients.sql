-- Programs that agencies registered. `version` counts the changes of a row's rights; a removed one stays, so that it does not come
-- back. `mac` covers every other column.
CREATE TABLE clients (
    id              TEXT   PRIMARY KEY,
    account         TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    jwks            TEXT   NOT NULL,
    scopes          TEXT   NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    last_used_at_ms BIGINT,
    removed_at_ms   BIGINT,
    version         BIGINT NOT NULL,
    mac             BYTEA  NOT NULL
);
CREATE INDEX clients_of_account ON clients (account, created_at_ms);

-- Assertions that were taken: a second time they are not. `id` is a hash of the client and the assertion's own id.
CREATE TABLE client_assertions (
    id            TEXT   PRIMARY KEY,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX client_assertions_by_end ON client_assertions (expires_at_ms);

-- The client that a session is of; absent where the account itself signed in.
ALTER TABLE sessions ADD COLUMN oauth_client TEXT;
-- Programs have many sessions, which last for minutes: those that are over are not looked at.
DROP INDEX sessions_open;
CREATE INDEX sessions_open ON sessions (account, expires_at_ms) WHERE ended_at_ms IS NULL;
