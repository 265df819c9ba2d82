-- Programs and apps whose keys stand at an address of their own: `jwks` is then what was found there last. `mac` covers both columns
-- where there is an address.
ALTER TABLE clients ADD COLUMN jwks_uri TEXT;
ALTER TABLE clients ADD COLUMN jwks_fetched_at_ms BIGINT;
ALTER TABLE apps ADD COLUMN jwks_uri TEXT;
ALTER TABLE apps ADD COLUMN jwks_fetched_at_ms BIGINT;
