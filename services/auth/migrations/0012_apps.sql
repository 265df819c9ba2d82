-- Third-party apps. `subject` is the subject of operators' orders about it; `body` and `salt` open the commitment of the order that
-- registered it. `version` counts the changes of a row's rights. `mac` covers every other column.
CREATE TABLE apps (
    id            TEXT   PRIMARY KEY,
    subject       TEXT   NOT NULL UNIQUE,
    name          TEXT   NOT NULL,
    publisher     TEXT   NOT NULL,
    redirect_uris TEXT   NOT NULL,
    jwks          TEXT,
    scopes        TEXT   NOT NULL,
    body          TEXT   NOT NULL,
    salt          BYTEA  NOT NULL,
    standing      TEXT   NOT NULL,
    revision      BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    version       BIGINT NOT NULL,
    mac           BYTEA  NOT NULL
);

-- Orders that operators signed about apps, and which of them are final.
CREATE TABLE app_orders (
    txid         TEXT   PRIMARY KEY,
    app          TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    operator     TEXT   NOT NULL,
    signed_at_ms BIGINT NOT NULL,
    final_at_ms  BIGINT,
    mac          BYTEA  NOT NULL,
    UNIQUE (app, kind, operator)
);

-- Apps' questions to patients. `code_hash` is there from the patient's yes on, `session` once the code was used. `version` grows
-- with each step; `mac` covers every other column.
CREATE TABLE authorizations (
    id            TEXT   PRIMARY KEY,
    patient       TEXT   NOT NULL,
    app           TEXT   NOT NULL,
    redirect_uri  TEXT   NOT NULL,
    scopes        TEXT   NOT NULL,
    state         TEXT,
    nonce         TEXT,
    fhir_url      TEXT   NOT NULL,
    challenge     TEXT   NOT NULL,
    step          TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    until_ms      BIGINT NOT NULL,
    code_hash     TEXT   UNIQUE,
    session       TEXT,
    version       BIGINT NOT NULL,
    mac           BYTEA  NOT NULL
);
CREATE INDEX authorizations_of_patient ON authorizations (patient, created_at_ms);
CREATE INDEX authorizations_by_end ON authorizations (expires_at_ms);

-- Sessions of apps: whose records, and what for.
ALTER TABLE sessions ADD COLUMN patient TEXT;
ALTER TABLE sessions ADD COLUMN scopes TEXT;
CREATE INDEX sessions_of_apps ON sessions (patient, expires_at_ms) WHERE patient IS NOT NULL AND ended_at_ms IS NULL;
