-- The commitment that an account's staff profile opens: what of it counts is what the ledger says of that.
ALTER TABLE subjects ADD COLUMN profile TEXT;

-- Staff profiles as final blocks made them, by the kid of the staff key. `votes` are those of the round under way. `mac`
-- covers every other column.
CREATE TABLE staff (
    key        TEXT   NOT NULL PRIMARY KEY,
    round      BIGINT NOT NULL,
    status     TEXT,
    commitment TEXT,
    votes      TEXT   NOT NULL,
    mac        BYTEA  NOT NULL
);
