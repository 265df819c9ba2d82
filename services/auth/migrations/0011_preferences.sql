-- How an account wants the portal, as JSON; absent until it says so. `mac` covers every other column: a mail about an emergency
-- is not switched off by another hand.
CREATE TABLE preferences (
    account TEXT  PRIMARY KEY,
    body    TEXT  NOT NULL,
    mac     BYTEA NOT NULL
);
