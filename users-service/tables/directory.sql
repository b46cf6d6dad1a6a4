-- The users that are not deleted: the time of creation in milliseconds, the names, each sealed under the user's key, and the
-- search terms that the user is found by, as a JSON object with an array for each name.
CREATE TABLE IF NOT EXISTS users (
    id BIGINT PRIMARY KEY,
    created BIGINT NOT NULL,
    key TEXT NOT NULL,
    username TEXT NOT NULL,
    given_name TEXT NOT NULL,
    family_name TEXT NOT NULL,
    terms TEXT NOT NULL
) {clustered};
CREATE INDEX IF NOT EXISTS users_by_creation ON users (created, id);

-- The users of each search term, in the order of their creation.
CREATE TABLE IF NOT EXISTS terms (
    term BIGINT NOT NULL,
    created BIGINT NOT NULL,
    id BIGINT NOT NULL,
    PRIMARY KEY (term, created, id)
) {clustered};
