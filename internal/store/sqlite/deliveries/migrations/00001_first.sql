-- +goose Up
-- Times are Unix milliseconds. A key_id has the bytes that package dukpt gives it.

-- The highest key id of each key set that was ever given out. It only rises.
CREATE TABLE highest (
    key_set TEXT    NOT NULL PRIMARY KEY,
    v       INTEGER NOT NULL CHECK (v = 1),
    key_id  BLOB    NOT NULL CHECK (length(key_id) IN (8, 10))
) STRICT, WITHOUT ROWID;

-- One row for each key id that was given out, for ever: without its row an id could be given out again. n counts them.
CREATE TABLE issued (
    n          INTEGER NOT NULL PRIMARY KEY,
    v          INTEGER NOT NULL CHECK (v = 1),
    key_set    TEXT    NOT NULL,
    key_id     BLOB    NOT NULL CHECK (length(key_id) IN (8, 10)),
    terminal   TEXT    NOT NULL,
    slot       INTEGER NOT NULL CHECK (slot BETWEEN 1 AND 255),
    replaces   BLOB    CHECK (length(replaces) IN (8, 10)),
    delivery   TEXT    NOT NULL,
    agreement  BLOB    NOT NULL CHECK (length(agreement) = 32),
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
    issued_at  INTEGER NOT NULL,
    settled_at INTEGER CHECK ((settled_at IS NULL) = (state = 'pending')),
    UNIQUE (key_set, key_id)
) STRICT;
CREATE INDEX issued_pending ON issued (terminal, slot, n) WHERE state = 'pending';

-- The certificate of each agreement key. chain is a CBOR array of DER, the leaf first.
CREATE TABLE certified (
    terminal  TEXT    NOT NULL,
    spki      BLOB    NOT NULL CHECK (length(spki) = 32),
    v         INTEGER NOT NULL CHECK (v = 1),
    serial    TEXT    NOT NULL UNIQUE,
    chain     BLOB    NOT NULL,
    issued_at INTEGER NOT NULL,
    PRIMARY KEY (terminal, spki)
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

-- +goose StatementBegin
CREATE TRIGGER issued_stays BEFORE DELETE ON issued
BEGIN
    SELECT RAISE(ABORT, 'what was given out is kept');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER issued_goes_on BEFORE UPDATE ON issued
WHEN (new.n, new.key_set, new.key_id, new.terminal, new.slot) <> (old.n, old.key_set, old.key_id, old.terminal, old.slot)
    OR (old.state, new.state) NOT IN (VALUES ('pending', 'active'), ('pending', 'retired'), ('active', 'retired'))
BEGIN
    SELECT RAISE(ABORT, 'what was given out does not change so');
END;
-- +goose StatementEnd
