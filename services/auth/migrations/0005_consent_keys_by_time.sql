-- How many keys an account made lately.
CREATE INDEX consent_keys_by_time ON consent_keys (account, created_at_ms);
