-- What was found by looking for it again and again is owed as jobs (`jobs` is a table of every service).

INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
SELECT 'upload.abort', id, id, 'waiting', 1, created_at_ms + 120000, created_at_ms + 120000, 0, 0
FROM intents WHERE state <> 'committed' AND state <> 'void';

INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
SELECT 'upload.report', intent, intent, 'waiting', 1, min(created_at_ms), min(created_at_ms), 0, 0
FROM segments WHERE reported_at_ms IS NULL AND height IS NOT NULL GROUP BY intent;

INSERT INTO jobs (kind, key, subject, state, wanted, owed_at_ms, due_at_ms, attempts, faults)
SELECT 'upload.unspool', intent, 'spool/' || intent, 'waiting', 1, min(created_at_ms), min(created_at_ms), 0, 0
FROM segments WHERE spooled_at_ms IS NOT NULL AND height IS NOT NULL GROUP BY intent;

DROP INDEX intents_unsettled;
DROP INDEX segments_unreported;

-- When a segment's pin was last looked at, and, if IPFS did not hold it then, when that was.
ALTER TABLE segments ADD COLUMN pin_seen_at_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN unpinned_at_ms BIGINT;
CREATE INDEX segments_pin_seen ON segments (pin_seen_at_ms, cid);
CREATE INDEX segments_unpinned ON segments (cid) WHERE unpinned_at_ms IS NOT NULL;
