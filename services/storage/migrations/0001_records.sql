-- Uploads under way. One is `open` until its commit, or `dead` when it will never come; a dead one is `void` once
-- access-policy knows that its numbers will not be used.
CREATE TABLE intents (
    id            TEXT   NOT NULL PRIMARY KEY,
    state         TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    settled_at_ms BIGINT
);
CREATE INDEX intents_unsettled ON intents (created_at_ms) WHERE state <> 'committed' AND state <> 'void';

-- IPFS objects of encrypted records. `txid` is the anchor's transaction; `reported_at_ms` tells when access-policy
-- learned that the numbers in it are final.
CREATE TABLE segments (
    cid            TEXT   NOT NULL PRIMARY KEY,
    intent         TEXT   NOT NULL,
    position       BIGINT NOT NULL,
    digest         TEXT   NOT NULL,
    bytes          BIGINT NOT NULL,
    records        BIGINT NOT NULL,
    root           TEXT   NOT NULL,
    tag            TEXT   NOT NULL,
    txid           TEXT   NOT NULL,
    created_at_ms  BIGINT NOT NULL,
    height         BIGINT,
    log_index      BIGINT,
    final_at_ms    BIGINT,
    reported_at_ms BIGINT,
    spooled_at_ms  BIGINT
);
CREATE INDEX segments_txid ON segments (txid);
CREATE INDEX segments_intent ON segments (intent);
CREATE INDEX segments_unreported ON segments (created_at_ms) WHERE reported_at_ms IS NULL;
CREATE INDEX segments_spooled ON segments (spooled_at_ms) WHERE spooled_at_ms IS NOT NULL;

-- Record versions. `patient` and `sensitivity` are keyed hashes; `encrypted` holds what a dump must not tell and binds
-- every clear column.
CREATE TABLE records (
    id            TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    patient       TEXT   NOT NULL,
    sensitivity   TEXT   NOT NULL,
    category      TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    date0         TEXT,
    date1         TEXT,
    n             BIGINT NOT NULL,
    kek_epoch     BIGINT NOT NULL,
    wrapped       BYTEA  NOT NULL,
    encrypted        BYTEA  NOT NULL,
    cid           TEXT   NOT NULL REFERENCES segments (cid),
    position      BIGINT NOT NULL,
    slice_offset  BIGINT NOT NULL,
    slice_length  BIGINT NOT NULL,
    commitment    TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (id, version)
);
CREATE UNIQUE INDEX records_place ON records (cid, position);
CREATE INDEX records_listed ON records (patient, created_at_ms, id);
CREATE INDEX records_labels ON records (patient, category, sensitivity);
CREATE INDEX records_dated ON records (patient, kind, date0);

-- Search tokens: codes and identifiers, hashed together with the patient.
CREATE TABLE tokens (
    token  TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (token, record)
);

-- Conditional creates: one record for each condition, whoever was first.
CREATE TABLE conditions (
    token  TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
);

-- The Patient resource of each account.
CREATE TABLE subjects (
    patient TEXT NOT NULL PRIMARY KEY,
    record  TEXT NOT NULL
);
