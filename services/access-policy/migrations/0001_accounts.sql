-- What auth tells about accounts. `mac` covers every other column under a key outside the database; `name` is encrypted
-- under one, too, so that a copy of the database names nobody.
CREATE TABLE subjects (
    id              TEXT   NOT NULL PRIMARY KEY,
    role            TEXT   NOT NULL,
    standing        TEXT   NOT NULL,
    agency_type     TEXT,
    name            BYTEA,
    organisation    TEXT,
    staff_key       TEXT,
    revision        BIGINT NOT NULL,
    denied_at_ms    BIGINT,
    denied_until_ms BIGINT,
    updated_at_ms   BIGINT NOT NULL,
    mac             BYTEA  NOT NULL
);

-- Ended sessions, in 256 buckets by the first byte of the session id. The buckets are made once: a missing
-- one is an attack, so that a denial cannot be taken back by deleting a row.
CREATE TABLE session_denials (
    bucket   BIGINT NOT NULL PRIMARY KEY,
    sessions TEXT   NOT NULL,
    mac      BYTEA  NOT NULL
);

-- The pin of a patient's root key. `mac` covers these columns and every grant that has not ended.
CREATE TABLE patients (
    id               TEXT   NOT NULL PRIMARY KEY,
    root_public_key  BYTEA  NOT NULL,
    root_fingerprint TEXT   NOT NULL,
    custody          TEXT   NOT NULL,
    consent_version  BIGINT NOT NULL,
    kek_epoch        BIGINT NOT NULL,
    frozen_at_ms     BIGINT,
    pinned_at_ms     BIGINT NOT NULL,
    mac              BYTEA  NOT NULL
);
