-- What a record says to searches, encrypted under a key outside the database. A record that was indexed before this column
-- has none: whoever may read it brings it up to date by reading it.
ALTER TABLE records ADD COLUMN facts BYTEA;
