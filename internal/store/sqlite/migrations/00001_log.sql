-- +goose Up
-- What every database of this program has. Databases of earlier releases have these tables already.

-- The Merkle log. hashes holds, one after the other, those of the nodes that the leaf completes, from the leaf upwards.
CREATE TABLE IF NOT EXISTS audit_leaves (
    n      INTEGER NOT NULL PRIMARY KEY CHECK (n >= 0),
    record BLOB    NOT NULL,
    hashes BLOB    NOT NULL CHECK (length(hashes) % 32 = 0)
) STRICT;

CREATE TABLE IF NOT EXISTS audit_checkpoints (
    id   INTEGER NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size >= 0),
    note BLOB    NOT NULL
) STRICT;

-- What a readiness check writes.
CREATE TABLE IF NOT EXISTS heartbeat (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    beat INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO heartbeat (id, beat) VALUES (1, 0);
