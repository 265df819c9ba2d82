-- One row per block: what the chain consists of. Never changed, never deleted.
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    header BLOB NOT NULL,
    body BLOB NOT NULL,
    certificate TEXT NOT NULL
);
CREATE TRIGGER blocks_keep BEFORE UPDATE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never changed'); END;
CREATE TRIGGER blocks_stay BEFORE DELETE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never deleted'); END;

-- `mac` below: a keyed digest over the row's other columns, under a key derived from the member's.

-- Transactions this node promised and that are not final yet, in the order of their arrival.
CREATE TABLE promises (
    seq INTEGER PRIMARY KEY,
    txid BLOB NOT NULL UNIQUE,
    jws BLOB NOT NULL,
    received_at_ms INTEGER NOT NULL,
    mac BLOB NOT NULL
);

-- Promised transactions that a final one excludes.
CREATE TABLE refusals (
    txid BLOB PRIMARY KEY,
    jws BLOB NOT NULL,
    reason TEXT NOT NULL,
    excluded_by BLOB,
    refused_at_ms INTEGER NOT NULL,
    mac BLOB NOT NULL
);

-- What members were caught at; kept for ever.
CREATE TABLE evidence (
    digest BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    member BLOB,
    height INTEGER NOT NULL,
    detail BLOB NOT NULL,
    seen_at_ms INTEGER NOT NULL,
    mac BLOB NOT NULL
);

-- One row: how many promises, refusals and pieces of evidence there are, and a keyed digest of all their MACs under a
-- fresh nonce. It changes in the transaction that changes them.
CREATE TABLE multiset_hash (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    entries INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    digest BLOB NOT NULL
);
