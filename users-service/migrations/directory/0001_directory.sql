-- One row per user for ever: the last revision applied, and the names, each sealed under the user's key.
-- A deleted user has revision 2^63 - 1 and nothing else.
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    key TEXT,
    username TEXT,
    given_name TEXT,
    family_name TEXT
);

-- Users whose next event cannot be applied. Later events wait in the log.
CREATE TABLE held (
    id INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;

-- How often a redelivered message was tried, counted before each attempt.
CREATE TABLE attempts (
    id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (id, revision)
) WITHOUT ROWID;

-- The log position up to which everything is applied or held.
CREATE TABLE completeness (
    generation INTEGER PRIMARY KEY,
    commit_position INTEGER NOT NULL,
    prepare_position INTEGER NOT NULL
);
