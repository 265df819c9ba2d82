CREATE INDEX ledger_outbox_bytes ON ledger_outbox (settled_at_ms) WHERE settled_at_ms IS NOT NULL AND jws <> '';
