-- Why operators rejected or suspended an account; for them and for itself.
ALTER TABLE accounts ADD COLUMN reason TEXT;
