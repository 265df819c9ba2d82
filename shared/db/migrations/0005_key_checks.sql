-- What keys that stand outside this database look like from here: so that another key in a key's place is told at the start.
CREATE TABLE key_checks (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
