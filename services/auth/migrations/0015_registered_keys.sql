-- When the chain showed a consent key registered: a revocation is owed to the ledger once it is. Outside the row's MAC, for it
-- gives nobody a right. Of keys that were made before this, it is taken for granted.
ALTER TABLE consent_keys ADD COLUMN registered_at_ms BIGINT;
UPDATE consent_keys SET registered_at_ms = created_at_ms;
