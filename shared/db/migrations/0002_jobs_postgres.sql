-- Work that is owed. A row names what the work is about, never what is true of it. `due_at_ms` is when a runner may take
-- it; while one has it, that is the end of its lease. `wanted` grows with every enqueuing, so that one that comes during
-- a run leads to another run. `owed_at_ms` is since when it should be done; of a periodic one, when this run was due.
CREATE TABLE jobs (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           TEXT   NOT NULL,
    key            TEXT   NOT NULL,
    subject        TEXT   NOT NULL,
    state          TEXT   NOT NULL,
    wanted         BIGINT NOT NULL,
    owed_at_ms     BIGINT NOT NULL,
    due_at_ms      BIGINT NOT NULL,
    attempts       BIGINT NOT NULL,
    faults         BIGINT NOT NULL,
    token          TEXT,
    error          TEXT,
    failed_at_ms   BIGINT,
    UNIQUE (kind, key)
);
CREATE INDEX jobs_subject ON jobs (subject, seq);
CREATE INDEX jobs_due ON jobs (due_at_ms) WHERE state <> 'failed';
