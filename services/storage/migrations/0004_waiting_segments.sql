-- A segment waits until it is anchored: then `txid` is the anchor's transaction and `place` its place there. `patient` is the
-- keyed hash of whose records it holds, and `day0`, `day1` are what its anchor says. `due_at_ms` is when it may be anchored;
-- of one that was made to wait, `delayed` is 1 until its anchor is final. `alone`: an anchor that it shared was refused.
ALTER TABLE segments ADD COLUMN anchor TEXT;
UPDATE segments SET anchor = txid;
DROP INDEX segments_txid;
ALTER TABLE segments DROP COLUMN txid;
ALTER TABLE segments RENAME COLUMN anchor TO txid;
CREATE INDEX segments_txid ON segments (txid);

ALTER TABLE segments ADD COLUMN place BIGINT;
UPDATE segments SET place = position;
ALTER TABLE segments ADD COLUMN patient TEXT NOT NULL DEFAULT '';
ALTER TABLE segments ADD COLUMN day0 BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN day1 BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN delayed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN alone BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN due_at_ms BIGINT;
CREATE INDEX segments_waiting ON segments (due_at_ms) WHERE txid IS NULL;
CREATE INDEX segments_open ON segments (patient) WHERE txid IS NOT NULL AND final_at_ms IS NULL AND refused_at_ms IS NULL;
