-- When an account was closed by its owner, for ever. `mac` covers it.
ALTER TABLE subjects ADD COLUMN closed_at_ms BIGINT;
