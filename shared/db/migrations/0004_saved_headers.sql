-- Answers are given again with all their headers, as a JSON array of [name, value].
ALTER TABLE saved_answers ADD COLUMN headers TEXT NOT NULL DEFAULT '[]';
UPDATE saved_answers SET headers = '[["location","' || location || '"]]' WHERE location IS NOT NULL;
ALTER TABLE saved_answers DROP COLUMN location;
