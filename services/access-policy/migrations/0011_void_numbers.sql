-- A read asks whether a few numbers are void: without the rows of all that is final, and from the number on.
CREATE INDEX number_ranges_void ON number_ranges (patient, sensitivity, category, first_n) WHERE state = 'void';
