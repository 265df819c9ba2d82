-- How often an account's row was written: the journal beside the database remembers the last one.
ALTER TABLE accounts ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
