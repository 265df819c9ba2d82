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
