-- The last receipt of each patient, and how far they stand in batches.
CREATE TABLE receipt_heads (
    patient   TEXT   NOT NULL PRIMARY KEY,
    n         BIGINT NOT NULL,
    leaf      TEXT,
    batched_n BIGINT NOT NULL
);
CREATE INDEX receipt_heads_waiting ON receipt_heads (patient) WHERE n > batched_n;

CREATE TABLE receipts (
    patient TEXT   NOT NULL,
    n       BIGINT NOT NULL,
    id      TEXT   NOT NULL UNIQUE,
    actor   TEXT   NOT NULL,
    body    TEXT   NOT NULL,
    salt    BYTEA  NOT NULL,
    leaf    TEXT   NOT NULL,
    at_ms   BIGINT NOT NULL,
    PRIMARY KEY (patient, n)
);

-- One ledger transaction per batch; its leaves are those of its spans, in order.
CREATE TABLE receipt_batches (
    id            TEXT   NOT NULL PRIMARY KEY,
    root          TEXT   NOT NULL,
    count         BIGINT NOT NULL,
    txid          TEXT   NOT NULL UNIQUE,
    height        BIGINT,
    created_at_ms BIGINT NOT NULL
);
CREATE TABLE receipt_spans (
    patient TEXT   NOT NULL,
    first_n BIGINT NOT NULL,
    last_n  BIGINT NOT NULL,
    batch   TEXT   NOT NULL REFERENCES receipt_batches (id),
    place   BIGINT NOT NULL,
    PRIMARY KEY (patient, first_n)
);
CREATE INDEX receipt_spans_batch ON receipt_spans (batch, place);

-- Equal denials within a minute share one receipt.
CREATE TABLE denial_folds (
    fingerprint TEXT   NOT NULL PRIMARY KEY,
    receipt     TEXT   NOT NULL,
    until_ms    BIGINT NOT NULL,
    count       BIGINT NOT NULL
);
CREATE INDEX denial_folds_age ON denial_folds (until_ms);
