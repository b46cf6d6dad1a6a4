-- Events that an operator has dropped from this read model. They change nothing but the user's revision.
CREATE TABLE dropped (
    id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (id, revision)
) WITHOUT ROWID;
