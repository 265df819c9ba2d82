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

-- Keys that patients claim who have none of those before; `nonce` is the claim's own, `salt` that of the orders' commitment,
-- `told_at_ms` when access-policy stored it. `mac` covers every other column.
CREATE TABLE root_claims (
    account             TEXT   NOT NULL PRIMARY KEY,
    root_public_key     BYTEA  NOT NULL UNIQUE,
    recovery_public_key BYTEA,
    nonce               BYTEA  NOT NULL,
    salt                BYTEA  NOT NULL,
    claimed_at_ms       BIGINT NOT NULL,
    told_at_ms          BIGINT,
    mac                 BYTEA  NOT NULL
);

-- Orders that operators signed about claims, and which of them are final. `subject` is the claim's hash.
CREATE TABLE root_orders (
    txid         TEXT   NOT NULL PRIMARY KEY,
    subject      TEXT   NOT NULL,
    operator     TEXT   NOT NULL,
    signed_at_ms BIGINT NOT NULL,
    final_at_ms  BIGINT,
    mac          BYTEA  NOT NULL,
    UNIQUE (subject, operator)
);
