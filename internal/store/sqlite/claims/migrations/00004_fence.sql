-- +goose Up
-- The fence of counters that have no row: the ordinals of all fences there were.
CREATE TABLE fence (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    v        INTEGER NOT NULL CHECK (v = 1),
    ordinals INTEGER NOT NULL CHECK (ordinals BETWEEN 0 AND 4294967295)
) STRICT;
INSERT INTO fence (id, v, ordinals) VALUES (1, 1, 0);
