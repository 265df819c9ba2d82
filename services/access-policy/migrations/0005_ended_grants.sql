-- The final alteration of a grant whose body is not known here: the grant stands still until it is.
ALTER TABLE grants ADD COLUMN altered_by TEXT;
-- A grant that ended is outside its patient's MAC: it has one of its own, without which it never lives again.
ALTER TABLE grants ADD COLUMN ended_mac BYTEA;
