-- What is counted of each user: a JSON object, or NULL if a deleted user's count is final.
CREATE TABLE IF NOT EXISTS counts (
    id BIGINT PRIMARY KEY,
    counted TEXT
) {clustered};

-- How many users were created, renamed and deleted in each window: its length and its begin, both in minutes.
CREATE TABLE IF NOT EXISTS windows (
    minutes BIGINT NOT NULL,
    start BIGINT NOT NULL,
    created BIGINT NOT NULL,
    renamed BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    PRIMARY KEY (minutes, start)
) {clustered};
