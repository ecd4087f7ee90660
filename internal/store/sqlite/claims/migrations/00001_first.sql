-- +goose Up
-- Times are Unix milliseconds. A counter, a ksn and a key_id have the bytes that package dukpt gives them.

-- One row for each initial key that anything was claimed under. high, seen and floor are ordinals, 0 for none yet.
-- fences, released and spent are CBOR arrays of [from, to]; status and grants are for later use.
CREATE TABLE counters (
    base_key  BLOB    NOT NULL CHECK (length(base_key) = 16),
    key_id    BLOB    NOT NULL CHECK (length(key_id) IN (8, 10)),
    v         INTEGER NOT NULL CHECK (v = 1),
    high      INTEGER NOT NULL CHECK (high >= 0),
    seen      INTEGER NOT NULL CHECK (seen >= high),
    floor     INTEGER NOT NULL CHECK (floor >= 0),
    fences    BLOB    NOT NULL,
    released  BLOB    NOT NULL,
    spent     BLOB    NOT NULL,
    conflicts INTEGER NOT NULL CHECK (conflicts >= 0),
    evidence  INTEGER NOT NULL CHECK (evidence BETWEEN 0 AND conflicts),
    status    INTEGER NOT NULL DEFAULT 0 CHECK (status = 0),
    grants    BLOB    NOT NULL DEFAULT x'80' CHECK (grants = x'80'),
    PRIMARY KEY (base_key, key_id)
) STRICT, WITHOUT ROWID;

-- One row for each content that was released under a transaction key for a purpose; n counts them. A row without content
-- is a tombstone: its message was reversed before it arrived.
CREATE TABLE claims (
    base_key      BLOB    NOT NULL,
    key_id        BLOB    NOT NULL,
    counter       INTEGER NOT NULL CHECK (counter BETWEEN 1 AND 4294967295),
    purpose       INTEGER NOT NULL CHECK (purpose BETWEEN 1 AND 7),
    n             INTEGER NOT NULL CHECK (n BETWEEN 0 AND 255),
    v             INTEGER NOT NULL CHECK (v = 1),
    content       BLOB    CHECK (length(content) = 32),
    claim_key     INTEGER NOT NULL,
    fill_key      INTEGER NOT NULL,
    treatment     BLOB,
    authenticated INTEGER NOT NULL CHECK (authenticated IN (0, 1)),
    mac_ksn       BLOB,
    closed_by     BLOB    CHECK (length(closed_by) = 32),
    collided      INTEGER NOT NULL CHECK (collided IN (0, 1)),
    first_seen    INTEGER NOT NULL,
    tries         INTEGER NOT NULL CHECK (tries >= 0),
    PRIMARY KEY (base_key, key_id, counter, purpose, n),
    FOREIGN KEY (base_key, key_id) REFERENCES counters (base_key, key_id)
) STRICT, WITHOUT ROWID;

-- One row for each message whose claims were accepted.
CREATE TABLE requests (
    digest   BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    v        INTEGER NOT NULL CHECK (v = 1),
    original BLOB    NOT NULL CHECK (length(original) = 32),
    tenant   TEXT    NOT NULL,
    context  BLOB    NOT NULL,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The decision on a message, and the acks that tell it: one for each message that asked.
CREATE TABLE answers (
    original BLOB    NOT NULL PRIMARY KEY CHECK (length(original) = 32),
    v        INTEGER NOT NULL CHECK (v = 1),
    tenant   TEXT    NOT NULL,
    result   TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE acks (
    digest   BLOB    NOT NULL PRIMARY KEY REFERENCES requests (digest),
    v        INTEGER NOT NULL CHECK (v = 1),
    original BLOB    NOT NULL REFERENCES answers (original),
    ack      BLOB    NOT NULL,
    ksn      BLOB,
    content  BLOB    CHECK (length(content) = 32),
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
