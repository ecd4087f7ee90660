-- +goose Up
-- One row for each drain grant that messages were let through under; used is how many. A grant is never used for another.
CREATE TABLE drains (
    grant_id TEXT    NOT NULL PRIMARY KEY CHECK (length(grant_id) BETWEEN 1 AND 64),
    v        INTEGER NOT NULL CHECK (v = 1),
    used     INTEGER NOT NULL CHECK (used BETWEEN 1 AND 4294967295)
) STRICT, WITHOUT ROWID;
