-- What a closing receipt says of the denials that were counted.
ALTER TABLE denial_folds ADD COLUMN patient TEXT NOT NULL DEFAULT '';
ALTER TABLE denial_folds ADD COLUMN actor TEXT NOT NULL DEFAULT '';
ALTER TABLE denial_folds ADD COLUMN organisation TEXT;
ALTER TABLE denial_folds ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE denial_folds ADD COLUMN rule TEXT NOT NULL DEFAULT '';
DELETE FROM denial_folds;
