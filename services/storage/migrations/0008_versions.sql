-- A version that says that its record is deleted has no content. Search tokens and conditions are of a record's newest version.
ALTER TABLE records ADD COLUMN deleted BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tokens_record ON tokens (record);
CREATE INDEX conditions_record ON conditions (record);
CREATE INDEX records_history ON records (patient, created_at_ms, id, version);
