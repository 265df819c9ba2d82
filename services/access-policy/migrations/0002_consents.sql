-- `message` is encrypted: people write names.
CREATE TABLE access_requests (
    id            TEXT   NOT NULL PRIMARY KEY,
    agency        TEXT   NOT NULL,
    patient       TEXT   NOT NULL,
    scope         TEXT   NOT NULL,
    message       BYTEA  NOT NULL,
    state         TEXT   NOT NULL,
    grant_id      TEXT,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    closed_at_ms  BIGINT
);
CREATE INDEX access_requests_patient ON access_requests (patient, created_at_ms, id);
CREATE INDEX access_requests_agency ON access_requests (agency, created_at_ms, id);
CREATE INDEX access_requests_open ON access_requests (expires_at_ms) WHERE closed_at_ms IS NULL;

-- One key per patient and grantee (and successors of revoked ones), certified by the root.
CREATE TABLE consent_keys (
    kid           TEXT   NOT NULL PRIMARY KEY,
    patient       TEXT   NOT NULL,
    grantee       TEXT   NOT NULL,
    public_key    TEXT   NOT NULL,
    last_seq      BIGINT NOT NULL,
    last_txid     TEXT,
    final_seq     BIGINT NOT NULL,
    final_txid    TEXT,
    revoked_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL
);
CREATE INDEX consent_keys_pair ON consent_keys (patient, grantee);

CREATE TABLE grants (
    id                  TEXT   NOT NULL PRIMARY KEY,
    patient             TEXT   NOT NULL,
    grantee             TEXT   NOT NULL,
    request             TEXT,
    scope               TEXT   NOT NULL,
    body                TEXT   NOT NULL,
    salt                BYTEA  NOT NULL,
    payload             TEXT   NOT NULL,
    custody             TEXT   NOT NULL,
    given_at_ms         BIGINT NOT NULL,
    until_ms            BIGINT NOT NULL,
    draft_expires_at_ms BIGINT NOT NULL,
    kid                 TEXT,
    seq                 BIGINT,
    jws                 TEXT,
    certificate         TEXT,
    txid                TEXT UNIQUE,
    signed_at_ms        BIGINT,
    numbers             TEXT,
    final_height        BIGINT,
    refused             TEXT,
    frozen_at_ms        BIGINT,
    revoked_at_ms       BIGINT,
    revoked_by          TEXT,
    ended_at_ms         BIGINT
);
CREATE INDEX grants_live ON grants (patient, id) WHERE ended_at_ms IS NULL AND signed_at_ms IS NOT NULL;
CREATE INDEX grants_expiry ON grants (until_ms) WHERE ended_at_ms IS NULL AND signed_at_ms IS NOT NULL;
CREATE INDEX grants_drafts ON grants (draft_expires_at_ms) WHERE signed_at_ms IS NULL;
CREATE INDEX grants_patient ON grants (patient, given_at_ms, id);
CREATE INDEX grants_grantee ON grants (grantee, given_at_ms, id);
-- Not unique: that a key's place is taken once is checked under the patient's lock, and the chain may overrule it.
CREATE INDEX grants_key ON grants (kid, seq) WHERE kid IS NOT NULL;

-- Revocations of grants that this service does not know (yet): they kill the grant for ever.
CREATE TABLE orphan_revocations (
    kid      TEXT   NOT NULL,
    grant_id TEXT   NOT NULL,
    txid     TEXT   NOT NULL,
    PRIMARY KEY (kid, grant_id)
);
