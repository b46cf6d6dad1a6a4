-- The id of the last event applied. Rows without one were made by a version that believed every message: the comparison
-- with the log begins anew, and confirms each of them or makes it anew.
ALTER TABLE users ADD COLUMN event TEXT;
DELETE FROM completeness;
