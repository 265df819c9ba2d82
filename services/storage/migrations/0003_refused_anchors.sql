-- When the ledger excluded a segment's anchor for ever.
ALTER TABLE segments ADD COLUMN refused_at_ms BIGINT;
UPDATE segments SET refused_at_ms =
    (SELECT o.settled_at_ms FROM ledger_outbox AS o WHERE o.txid = segments.txid AND o.state = 'refused')
WHERE height IS NULL;
CREATE INDEX segments_refused ON segments (cid) WHERE refused_at_ms IS NOT NULL;
