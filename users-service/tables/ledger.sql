-- How far each user is, for ever: the revision and the id of the last event applied, and the key that the user's names are
-- sealed under. A deleted user has revision 2^63 - 1 and no key.
CREATE TABLE IF NOT EXISTS ledger (
    id BIGINT PRIMARY KEY,
    revision BIGINT NOT NULL,
    event TEXT NOT NULL,
    key TEXT
) {clustered};

-- Users whose next event cannot be applied. Later events wait in the log.
CREATE TABLE IF NOT EXISTS held (
    id BIGINT PRIMARY KEY,
    revision BIGINT NOT NULL,
    reason TEXT NOT NULL
) {clustered};

-- Events that an operator has dropped from this read model. They change nothing but the user's revision.
CREATE TABLE IF NOT EXISTS dropped (
    id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (id, revision)
) {clustered};

-- How often an event was tried alone, counted before each attempt.
CREATE TABLE IF NOT EXISTS attempts (
    id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (id, revision)
) {clustered};

-- Present while events of the log are applied together. One row.
CREATE TABLE IF NOT EXISTS together (
    single BIGINT PRIMARY KEY CHECK (single = 1)
) {clustered};

-- The log position up to which every event is applied, or its user is held, and how many events were compared until then. One
-- row.
CREATE TABLE IF NOT EXISTS completeness (
    single BIGINT PRIMARY KEY CHECK (single = 1),
    commit_position BIGINT NOT NULL,
    prepare_position BIGINT NOT NULL,
    events BIGINT NOT NULL
) {clustered};

-- On PostgreSQL: how many transactions have erased users, and how many of them have left nothing in the server's files. One row.
CREATE TABLE IF NOT EXISTS erasures (
    single BIGINT PRIMARY KEY CHECK (single = 1),
    erased BIGINT NOT NULL,
    removed BIGINT NOT NULL
) {clustered};
