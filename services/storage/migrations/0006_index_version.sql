-- In which way a record is indexed: 0 is the way of before this column. Whoever may read such a record brings it up to date
-- by reading it.
ALTER TABLE records ADD COLUMN index_version BIGINT NOT NULL DEFAULT 0;
