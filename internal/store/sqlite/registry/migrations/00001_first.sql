-- +goose Up
-- Times are Unix seconds. A body is the stored form of its row in package provision; the columns beside it are copies for
-- searching.

-- What the registry says about itself.
CREATE TABLE meta (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    v       INTEGER NOT NULL CHECK (v = 1),
    tenant  TEXT    NOT NULL,
    epoch   INTEGER NOT NULL CHECK (epoch >= 0),
    objects INTEGER NOT NULL CHECK (objects >= 0),
    signer  BLOB    NOT NULL CHECK (length(signer) = 32),
    pepper  BLOB    NOT NULL CHECK (length(pepper) = 32)
) STRICT;

CREATE TABLE terminals (
    id   TEXT    NOT NULL PRIMARY KEY,
    v    INTEGER NOT NULL CHECK (v = 1),
    body BLOB    NOT NULL
) STRICT;

-- The one-time code of each terminal: not the code, only what recognises it.
CREATE TABLE codes (
    terminal TEXT    NOT NULL PRIMARY KEY,
    v        INTEGER NOT NULL CHECK (v = 1),
    state    TEXT    NOT NULL CHECK (state IN ('open', 'reserved', 'spent', 'void')),
    expires  INTEGER NOT NULL,
    body     BLOB    NOT NULL
) STRICT;
CREATE INDEX codes_live ON codes (expires) WHERE state IN ('open', 'reserved');

-- A serial number of a role is there once, for ever, and of one terminal. n is the order of writing.
CREATE TABLE certificates (
    n         INTEGER NOT NULL PRIMARY KEY,
    v         INTEGER NOT NULL CHECK (v = 1),
    role      TEXT    NOT NULL CHECK (role IN ('terminal', 'agreement')),
    serial    TEXT    NOT NULL,
    terminal  TEXT    NOT NULL,
    issued    INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked   INTEGER NOT NULL, -- 0 for never
    key_hash  BLOB    NOT NULL CHECK (length(key_hash) = 32),
    body      BLOB    NOT NULL,
    UNIQUE (role, serial)
) STRICT;
CREATE INDEX certificates_of ON certificates (terminal, n);
CREATE INDEX certificates_key ON certificates (key_hash, not_after);

-- +goose StatementBegin
CREATE TRIGGER certificates_stay BEFORE UPDATE ON certificates
WHEN (new.n, new.role, new.serial, new.terminal) <> (old.n, old.role, old.serial, old.terminal)
BEGIN
    SELECT RAISE(ABORT, 'a certificate stays with its terminal');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER certificates_last BEFORE DELETE ON certificates
BEGIN
    SELECT RAISE(ABORT, 'certificates are kept');
END;
-- +goose StatementEnd

CREATE TABLE approvals (
    n       INTEGER NOT NULL PRIMARY KEY,
    v       INTEGER NOT NULL CHECK (v = 1),
    id      TEXT    NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    body    BLOB    NOT NULL
) STRICT;
CREATE INDEX approvals_age ON approvals (created, n);

-- The highest key id of each key set that was ever seen. key_id has the bytes that package dukpt gives it.
CREATE TABLE highest (
    key_set TEXT    NOT NULL PRIMARY KEY,
    v       INTEGER NOT NULL CHECK (v = 1),
    key_id  BLOB    NOT NULL CHECK (length(key_id) IN (8, 10))
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER highest_rises BEFORE UPDATE ON highest WHEN new.key_set <> old.key_set OR new.key_id <= old.key_id
BEGIN
    SELECT RAISE(ABORT, 'the highest key id does not rise');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER highest_stays BEFORE DELETE ON highest
BEGIN
    SELECT RAISE(ABORT, 'the highest key id is kept');
END;
-- +goose StatementEnd

-- The registry feed. A sequence of an epoch is there once, and its record never changes.
CREATE TABLE feed (
    epoch    INTEGER NOT NULL CHECK (epoch >= 0),
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    v        INTEGER NOT NULL CHECK (v = 1),
    object   TEXT    NOT NULL,
    envelope BLOB    NOT NULL,
    PRIMARY KEY (epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX feed_object ON feed (epoch, object, sequence);

-- +goose StatementBegin
CREATE TRIGGER feed_stays BEFORE UPDATE ON feed
BEGIN
    SELECT RAISE(ABORT, 'a record of the feed does not change');
END;
-- +goose StatementEnd

-- What other services have to be told.
CREATE TABLE tasks (
    id   TEXT    NOT NULL PRIMARY KEY,
    v    INTEGER NOT NULL CHECK (v = 1),
    due  INTEGER NOT NULL,
    body BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_due ON tasks (due, id);
