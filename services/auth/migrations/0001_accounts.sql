-- Accounts, what proves who they are, and their sessions. A column `mac` seals the row's id and all its other
-- columns under a key outside the database: a row written or copied by another hand is refused.

CREATE TABLE accounts (
    id                     TEXT   NOT NULL PRIMARY KEY,
    role                   TEXT   NOT NULL,
    username               TEXT   NOT NULL UNIQUE,
    password_hash          TEXT   NOT NULL,
    standing               TEXT   NOT NULL,
    revision               BIGINT NOT NULL,
    name                   TEXT,
    email                  TEXT,
    phone                  TEXT,
    address                TEXT,
    custody                TEXT,
    public_key             BYTEA  NOT NULL,
    agency_type            TEXT,
    organisation           TEXT,
    licence_number         TEXT,
    profile_salt           BYTEA,
    profile_body           TEXT,
    staff_round            BIGINT NOT NULL,
    created_at_ms          BIGINT NOT NULL,
    password_changed_at_ms BIGINT NOT NULL,
    second_factor_at_ms    BIGINT,
    mac                    BYTEA  NOT NULL
);
CREATE INDEX accounts_by_key ON accounts (public_key);
CREATE INDEX accounts_by_role ON accounts (role, standing, id);

CREATE TABLE factors (
    account         TEXT   NOT NULL PRIMARY KEY,
    nonce           BYTEA  NOT NULL,
    encrypted          BYTEA  NOT NULL,
    confirmed_at_ms BIGINT,
    last_step       BIGINT NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    mac             BYTEA  NOT NULL
);

CREATE TABLE sessions (
    id            TEXT   NOT NULL PRIMARY KEY,
    account       TEXT   NOT NULL,
    amr           TEXT   NOT NULL,
    auth_time_ms  BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    ended_at_ms   BIGINT,
    end_reason    TEXT,
    mac           BYTEA  NOT NULL
);
CREATE INDEX sessions_open ON sessions (account) WHERE ended_at_ms IS NULL;
CREATE INDEX sessions_age ON sessions (expires_at_ms);

CREATE TABLE refresh_tokens (
    hash          TEXT   NOT NULL PRIMARY KEY,
    session       TEXT   NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT,
    mac           BYTEA  NOT NULL
);
CREATE INDEX refresh_tokens_age ON refresh_tokens (expires_at_ms);

CREATE TABLE login_failures (
    scope    TEXT   NOT NULL,
    subject  TEXT   NOT NULL,
    failures BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    PRIMARY KEY (scope, subject)
);
CREATE INDEX login_failures_age ON login_failures (last_ms);

CREATE TABLE login_successes (
    pair    TEXT   NOT NULL PRIMARY KEY,
    last_ms BIGINT NOT NULL
);
