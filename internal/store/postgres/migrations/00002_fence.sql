-- +goose Up
-- The fence of counters that have no row: the ordinals of all fences there were.
CREATE TABLE fence (
    id       smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    v        smallint NOT NULL CHECK (v = 1),
    ordinals bigint   NOT NULL CHECK (ordinals BETWEEN 0 AND 4294967295)
);
INSERT INTO fence (id, v, ordinals) VALUES (1, 1, 0);
