-- Grants to apps say whether the app may come when the patient is not there, those to devices name the key. The patient's MAC
-- covers both.
ALTER TABLE grants ADD COLUMN offline BIGINT;
ALTER TABLE grants ADD COLUMN device TEXT;
