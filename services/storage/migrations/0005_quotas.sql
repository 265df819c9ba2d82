-- Bytes that an account wrote into segments: in all, and on the last UTC day on which it wrote (days since 1970-01-01).
-- `author` is a keyed hash.
CREATE TABLE written (
    author TEXT NOT NULL PRIMARY KEY,
    total  BIGINT NOT NULL,
    day    BIGINT NOT NULL,
    of_day BIGINT NOT NULL
);
