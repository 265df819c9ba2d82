-- A patient's recovery key, and the certificate by which the present keys took the place of those before: the account's MAC covers
-- both.
ALTER TABLE accounts ADD COLUMN recovery_public_key BYTEA;
ALTER TABLE accounts ADD COLUMN root_certificate TEXT;

-- The seed of a root key as its owner's page wrapped it: under what a passkey derives, or, with an empty `passkey`, under the printed
-- recovery code. Nothing here opens one. `mac` covers every other column.
CREATE TABLE root_wraps (
    account       TEXT   NOT NULL,
    passkey       TEXT   NOT NULL,
    root          TEXT   NOT NULL,
    salt          BYTEA  NOT NULL,
    wrapped       BYTEA  NOT NULL,
    created_at_ms BIGINT NOT NULL,
    mac           BYTEA  NOT NULL,
    PRIMARY KEY (account, passkey)
);

-- Keys that patients claim who have none of those before; `body` and `salt` open the commitment of operators' orders. `mac` covers
-- every other column.
CREATE TABLE root_claims (
    account             TEXT   NOT NULL PRIMARY KEY,
    root                TEXT   NOT NULL UNIQUE,
    root_public_key     BYTEA  NOT NULL,
    recovery_public_key BYTEA,
    salt                BYTEA  NOT NULL,
    claimed_at_ms       BIGINT NOT NULL,
    mac                 BYTEA  NOT NULL
);

-- Orders that operators signed about claimed root keys, and which of them are final.
CREATE TABLE root_orders (
    txid         TEXT   NOT NULL PRIMARY KEY,
    root         TEXT   NOT NULL,
    operator     TEXT   NOT NULL,
    signed_at_ms BIGINT NOT NULL,
    final_at_ms  BIGINT,
    mac          BYTEA  NOT NULL,
    UNIQUE (root, operator)
);
