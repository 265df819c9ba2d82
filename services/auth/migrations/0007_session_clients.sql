-- What the owner is told of a session: when it began, when it was used last, and with what, coarsely.
ALTER TABLE sessions ADD COLUMN created_at_ms BIGINT;
ALTER TABLE sessions ADD COLUMN last_used_at_ms BIGINT;
ALTER TABLE sessions ADD COLUMN client TEXT;
