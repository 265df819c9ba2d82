-- Who acts for which organisation, as final blocks made it, by the kids of both staff keys. `mac` covers every other column.
CREATE TABLE affiliations (
    organisation TEXT   NOT NULL,
    key          TEXT   NOT NULL,
    count        BIGINT NOT NULL,
    status       TEXT   NOT NULL,
    mac          BYTEA  NOT NULL,
    PRIMARY KEY (organisation, key)
);
