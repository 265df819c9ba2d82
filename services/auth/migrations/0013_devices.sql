-- Devices and gateways that made themselves known, each with one key, of which `fingerprint` is the RFC 7638 thumbprint. One
-- that nobody has paired is forgotten after a day. What gives rights is its pairings. `mac` covers every other column.
CREATE TABLE devices (
    id              TEXT   PRIMARY KEY,
    name            TEXT   NOT NULL,
    model           TEXT   NOT NULL,
    jwks            TEXT   NOT NULL,
    fingerprint     TEXT   NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    paired_at_ms    BIGINT,
    last_used_at_ms BIGINT,
    clock_offset_ms BIGINT,
    mac             BYTEA  NOT NULL
);
CREATE UNIQUE INDEX devices_by_fingerprint ON devices (fingerprint);
CREATE INDEX devices_unpaired ON devices (created_at_ms) WHERE paired_at_ms IS NULL;

-- Codes with which patients pair devices; `code` is a keyed hash. `mac` covers every other column.
CREATE TABLE pairing_codes (
    id              TEXT   PRIMARY KEY,
    patient         TEXT   NOT NULL,
    code            TEXT   NOT NULL,
    created_at_ms   BIGINT NOT NULL,
    expires_at_ms   BIGINT NOT NULL,
    device          TEXT,
    confirmed_at_ms BIGINT,
    ended_at_ms     BIGINT,
    mac             BYTEA  NOT NULL
);
CREATE UNIQUE INDEX pairing_codes_by_code ON pairing_codes (code);
CREATE INDEX pairing_codes_of_patient ON pairing_codes (patient, created_at_ms);
CREATE INDEX pairing_codes_by_age ON pairing_codes (created_at_ms);

-- Which device is paired with which patient; `id` is its code's. `version` counts the changes; one that ended stays, so that it
-- does not come back. `mac` covers every other column.
CREATE TABLE pairings (
    id           TEXT   PRIMARY KEY,
    patient      TEXT   NOT NULL,
    device       TEXT   NOT NULL,
    consent      TEXT   NOT NULL,
    paired_at_ms BIGINT NOT NULL,
    ended_at_ms  BIGINT,
    version      BIGINT NOT NULL,
    mac          BYTEA  NOT NULL
);
CREATE INDEX pairings_of_patient ON pairings (patient, paired_at_ms);
CREATE INDEX pairings_of_device ON pairings (device, paired_at_ms);
-- At most one at a time.
CREATE UNIQUE INDEX pairings_live ON pairings (device, patient) WHERE ended_at_ms IS NULL;
