-- Key-encryption keys, wrapped under the master key.
CREATE TABLE keks (
    patient       TEXT   NOT NULL,
    sensitivity   TEXT   NOT NULL,
    kek_epoch     BIGINT NOT NULL,
    wrapped       BYTEA  NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (patient, sensitivity, kek_epoch)
);

-- The highest record number handed out per patient and label set.
CREATE TABLE number_sets (
    patient     TEXT   NOT NULL,
    sensitivity TEXT   NOT NULL,
    category    TEXT   NOT NULL,
    n_max       BIGINT NOT NULL,
    PRIMARY KEY (patient, sensitivity, category)
);

-- Which numbers went to which write intent, and what became of them: open, final or void.
CREATE TABLE number_ranges (
    patient     TEXT   NOT NULL,
    sensitivity TEXT   NOT NULL,
    category    TEXT   NOT NULL,
    first_n     BIGINT NOT NULL,
    last_n      BIGINT NOT NULL,
    intent      TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    txid        TEXT,
    commitments BYTEA,
    PRIMARY KEY (patient, sensitivity, category, first_n)
);
CREATE INDEX number_ranges_unsettled ON number_ranges (patient, sensitivity, category) WHERE state <> 'final';
CREATE INDEX number_ranges_intent ON number_ranges (intent);

-- Write intents. `seed`, wrapped, makes the same answer again; it goes when the intent is anchored or void.
CREATE TABLE intents (
    id            TEXT   NOT NULL PRIMARY KEY,
    state         TEXT   NOT NULL,
    patient       TEXT,
    actor         TEXT,
    purpose       TEXT,
    fingerprint   TEXT,
    sensitivity   TEXT,
    kek_epoch     BIGINT,
    seed          BYTEA,
    receipt       TEXT,
    created_at_ms BIGINT NOT NULL,
    closed_at_ms  BIGINT
);
