-- Who acts for which organisation: what was signed last, and whether it is final. `body` and `salt` open the commitment on
-- the ledger; `changes` counts what became final. `mac` covers every other column.
CREATE TABLE memberships (
    organisation TEXT   NOT NULL,
    member       TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    changes      BIGINT NOT NULL,
    body         TEXT   NOT NULL,
    salt         BYTEA  NOT NULL,
    txid         TEXT   NOT NULL UNIQUE,
    signed_at_ms BIGINT NOT NULL,
    final_at_ms  BIGINT,
    mac          BYTEA  NOT NULL,
    PRIMARY KEY (organisation, member)
);

-- Members are listed by their organisation.
CREATE INDEX accounts_of_organisation ON accounts (organisation, id);
