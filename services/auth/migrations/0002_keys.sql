-- Wrapped signing keys, recovery codes, the index of consent keys, staff approvals, and what access-policy is owed.

CREATE TABLE wrapped_keys (
    account       TEXT   NOT NULL PRIMARY KEY,
    key_use       TEXT   NOT NULL,
    m_kib         BIGINT NOT NULL,
    t             BIGINT NOT NULL,
    p             BIGINT NOT NULL,
    salt          BYTEA  NOT NULL,
    nonce         BYTEA  NOT NULL,
    ciphertext    BYTEA  NOT NULL,
    created_at_ms BIGINT NOT NULL,
    mac           BYTEA  NOT NULL
);

CREATE TABLE recovery_codes (
    account       TEXT   NOT NULL,
    n             BIGINT NOT NULL,
    salt          BYTEA  NOT NULL,
    nonce         BYTEA  NOT NULL,
    ciphertext    BYTEA  NOT NULL,
    created_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT,
    mac           BYTEA  NOT NULL,
    PRIMARY KEY (account, n)
);

CREATE TABLE consent_keys (
    kid           TEXT   NOT NULL PRIMARY KEY,
    account       TEXT   NOT NULL,
    grantee       TEXT,
    counter       BIGINT,
    public_key    BYTEA  NOT NULL,
    registration  TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT,
    mac           BYTEA  NOT NULL
);
CREATE UNIQUE INDEX consent_keys_by_grantee ON consent_keys (account, grantee, counter) WHERE grantee IS NOT NULL;

CREATE TABLE staff_signatures (
    agency        TEXT   NOT NULL,
    round         BIGINT NOT NULL,
    signer        TEXT   NOT NULL,
    status        TEXT   NOT NULL,
    txid          TEXT   NOT NULL UNIQUE,
    signed_at_ms  BIGINT NOT NULL,
    final_at_ms   BIGINT,
    mac           BYTEA  NOT NULL,
    PRIMARY KEY (agency, round, signer)
);

CREATE TABLE pushes (
    kind          TEXT   NOT NULL,
    subject       TEXT   NOT NULL,
    place         BIGINT NOT NULL,
    wanted        BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    due_at_ms     BIGINT NOT NULL,
    done_at_ms    BIGINT,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX pushes_due ON pushes (due_at_ms) WHERE done_at_ms IS NULL;
