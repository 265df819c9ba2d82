-- A patient's root key may be replaced, by a certificate of it or of the recovery key beside it. The patient's MAC covers the
-- recovery key, the certificate that brought the present keys, and when that was signed.
ALTER TABLE patients ADD COLUMN recovery_public_key BYTEA;
ALTER TABLE patients ADD COLUMN root_certificate TEXT;
ALTER TABLE patients ADD COLUMN root_signed_at_ms BIGINT;

-- The keys that others took the place of, for whoever verifies what they signed. `certificate` names the next ones, and is signed
-- by one of these: nothing here is believed without it. Without one operators ordered the next ones.
CREATE TABLE former_roots (
    patient             TEXT   NOT NULL,
    n                   BIGINT NOT NULL,
    root_public_key     BYTEA  NOT NULL,
    recovery_public_key BYTEA,
    custody             TEXT   NOT NULL,
    since_ms            BIGINT NOT NULL,
    until_ms            BIGINT NOT NULL,
    certificate         TEXT,
    PRIMARY KEY (patient, n)
);

-- Keys that somebody claims for a patient who has none of the pinned ones. `mac` covers every other column.
CREATE TABLE root_claims (
    patient             TEXT   NOT NULL PRIMARY KEY,
    root_public_key     BYTEA  NOT NULL,
    recovery_public_key BYTEA,
    nonce               BYTEA  NOT NULL,
    claimed_at_ms       BIGINT NOT NULL,
    mac                 BYTEA  NOT NULL
);
