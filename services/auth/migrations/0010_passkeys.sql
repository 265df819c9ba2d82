-- Passkeys of accounts. `credential` is the authenticator's id of one, `public_key` a COSE key. `version` counts the changes
-- of a row's rights; a removed one stays, so that it does not come back. `mac` covers every other column.
CREATE TABLE passkeys (
    id              TEXT   PRIMARY KEY,
    account         TEXT   NOT NULL,
    credential      BYTEA  NOT NULL UNIQUE,
    public_key      BYTEA  NOT NULL,
    name            TEXT   NOT NULL,
    transports      TEXT   NOT NULL,
    sign_count      BIGINT NOT NULL,
    backup          TEXT   NOT NULL,
    prf             BIGINT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    last_used_at_ms BIGINT,
    removed_at_ms   BIGINT,
    version         BIGINT NOT NULL,
    mac             BYTEA  NOT NULL
);
CREATE INDEX passkeys_of_account ON passkeys (account, created_at_ms);

-- Challenges that were not answered yet: whoever answers one takes it away. `id` is a hash of the challenge, `session` the one
-- in which a passkey is made; without it somebody signs in. `mac` covers every other column.
CREATE TABLE passkey_challenges (
    id            TEXT   PRIMARY KEY,
    session       TEXT,
    expires_at_ms BIGINT NOT NULL,
    mac           BYTEA  NOT NULL
);
CREATE INDEX passkey_challenges_by_end ON passkey_challenges (expires_at_ms);

-- The passkey that a session was opened with.
ALTER TABLE sessions ADD COLUMN passkey TEXT;
