-- The staff keys of an agency that asked for another one, numbered from 0 in the order in which they were asked for; who
-- never did has the one of its account. `ending` is the transaction that goes to the ledger once this key's profile is
-- final, signed by the operator `ending_by`. `version` counts the changes of a row; `mac` covers every other column.
CREATE TABLE staff_keys (
    agency       TEXT   NOT NULL,
    n            BIGINT NOT NULL,
    public_key   BYTEA  NOT NULL,
    asked_at_ms  BIGINT NOT NULL,
    signed_at_ms BIGINT,
    active_at_ms BIGINT,
    ended_at_ms  BIGINT,
    ending       TEXT,
    ending_by    TEXT,
    version      BIGINT NOT NULL,
    mac          BYTEA  NOT NULL,
    PRIMARY KEY (agency, n)
);
CREATE INDEX staff_keys_waiting ON staff_keys (agency) WHERE active_at_ms IS NULL AND ended_at_ms IS NULL;

-- What an organisation's waiting key has signed already: who is taken in under it as under the one before. `mac` covers
-- every other column.
CREATE TABLE next_memberships (
    organisation TEXT  NOT NULL,
    member       TEXT  NOT NULL,
    jws          TEXT  NOT NULL,
    mac          BYTEA NOT NULL,
    PRIMARY KEY (organisation, member)
);

-- Since when an agency is ended for good.
ALTER TABLE accounts ADD COLUMN ended_at_ms BIGINT;

-- Signatures are of a key; rounds begin anew with each. An operator may sign an end in a round in which they signed something
-- else before.
CREATE TABLE staff_signatures_of_keys (
    agency        TEXT   NOT NULL,
    key           BIGINT NOT NULL,
    round         BIGINT NOT NULL,
    signer        TEXT   NOT NULL,
    status        TEXT   NOT NULL,
    txid          TEXT   NOT NULL UNIQUE,
    signed_at_ms  BIGINT NOT NULL,
    final_at_ms   BIGINT,
    mac           BYTEA  NOT NULL,
    PRIMARY KEY (agency, key, round, signer, status)
);
INSERT INTO staff_signatures_of_keys (agency, key, round, signer, status, txid, signed_at_ms, final_at_ms, mac)
SELECT agency, 0, round, signer, status, txid, signed_at_ms, final_at_ms, mac FROM staff_signatures;
DROP TABLE staff_signatures;
ALTER TABLE staff_signatures_of_keys RENAME TO staff_signatures;
