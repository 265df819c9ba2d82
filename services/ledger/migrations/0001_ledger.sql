-- One row per block: what the chain consists of. Never changed, never deleted.
CREATE TABLE IF NOT EXISTS blocks (
    height INTEGER PRIMARY KEY,
    header BLOB NOT NULL,
    body BLOB NOT NULL,
    certificate TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS blocks_keep BEFORE UPDATE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never changed'); END;
CREATE TRIGGER IF NOT EXISTS blocks_stay BEFORE DELETE ON blocks
BEGIN SELECT RAISE(ABORT, 'blocks are never deleted'); END;

-- `seal` below: a keyed digest over the row's other columns, under a key derived from the member's.

-- Transactions this node promised and that are not final yet, in the order of their arrival.
CREATE TABLE IF NOT EXISTS promises (
    seq INTEGER PRIMARY KEY,
    txid BLOB NOT NULL UNIQUE,
    jws BLOB NOT NULL,
    received_at_ms INTEGER NOT NULL,
    seal BLOB NOT NULL
);

-- Promised transactions that a final one excludes.
CREATE TABLE IF NOT EXISTS refusals (
    txid BLOB PRIMARY KEY,
    jws BLOB NOT NULL,
    reason TEXT NOT NULL,
    excluded_by BLOB,
    refused_at_ms INTEGER NOT NULL,
    seal BLOB NOT NULL
);

-- What members were caught at; kept for ever.
CREATE TABLE IF NOT EXISTS evidence (
    digest BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    member BLOB,
    height INTEGER NOT NULL,
    detail BLOB NOT NULL,
    seen_at_ms INTEGER NOT NULL,
    seal BLOB NOT NULL
);
