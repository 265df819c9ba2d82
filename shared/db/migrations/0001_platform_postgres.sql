CREATE TABLE ledger_outbox (
    seq           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid          TEXT   NOT NULL UNIQUE,
    author        TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    reference     TEXT   NOT NULL,
    jws           TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    enqueued_at_ms BIGINT NOT NULL,
    due_at_ms     BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    node          TEXT,
    include_by_ms BIGINT,
    height        BIGINT,
    log_index     BIGINT,
    refused       TEXT,
    excluded_by   TEXT,
    settled_at_ms BIGINT
);
CREATE INDEX ledger_outbox_open ON ledger_outbox (author, seq) WHERE settled_at_ms IS NULL;
CREATE INDEX ledger_outbox_due ON ledger_outbox (due_at_ms) WHERE settled_at_ms IS NULL;
CREATE INDEX ledger_outbox_reference ON ledger_outbox (kind, reference);

CREATE TABLE chain_follow (
    chain         TEXT   NOT NULL PRIMARY KEY,
    height        BIGINT NOT NULL,
    block_hash    TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    updated_at_ms BIGINT NOT NULL
);

CREATE TABLE saved_answers (
    id            TEXT   NOT NULL PRIMARY KEY,
    fingerprint   TEXT   NOT NULL,
    status        BIGINT NOT NULL,
    location      TEXT,
    body          TEXT   NOT NULL,
    saved_at_ms   BIGINT NOT NULL
);
CREATE INDEX saved_answers_age ON saved_answers (saved_at_ms);
