-- +goose Up
-- Times are Unix seconds. A body is the stored form of its row in package provision; the columns beside it are copies for
-- searching. Names compare as bytes.

-- One row for each service. batch counts its commits: a service that lost the connection reads there whether its last one was
-- made. starts counts how often it connected.
CREATE TABLE instances (
    name   text     NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    v      smallint NOT NULL CHECK (v = 1),
    batch  bigint   NOT NULL CHECK (batch >= 0),
    starts bigint   NOT NULL CHECK (starts >= 1)
) WITH (fillfactor = 50);

-- The audit log of each service: its records, and of each the hashes of the tree that it completes.
CREATE TABLE audit_leaves (
    instance text   NOT NULL REFERENCES instances (name),
    n        bigint NOT NULL CHECK (n >= 0),
    record   bytea  NOT NULL,
    hashes   bytea  NOT NULL CHECK (length(hashes) >= 32 AND length(hashes) % 32 = 0),
    PRIMARY KEY (instance, n)
);

CREATE TABLE audit_checkpoints (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance text   NOT NULL REFERENCES instances (name),
    size     bigint NOT NULL CHECK (size >= 0),
    note     bytea  NOT NULL,
    UNIQUE (instance, size, note)
);

-- What a row that stays as it is says when somebody changes it.
-- +goose StatementBegin
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END
$$;
-- +goose StatementEnd

-- What the registry says about itself.
CREATE TABLE meta (
    id      smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    v       smallint NOT NULL CHECK (v = 1),
    tenant  text     NOT NULL,
    epoch   bigint   NOT NULL CHECK (epoch >= 0),
    objects bigint   NOT NULL CHECK (objects >= 0),
    signer  bytea    NOT NULL CHECK (length(signer) = 32),
    pepper  bytea    NOT NULL CHECK (length(pepper) = 32)
);

CREATE TABLE terminals (
    id   text     COLLATE "C" NOT NULL PRIMARY KEY,
    v    smallint NOT NULL CHECK (v = 1),
    body bytea    NOT NULL
);

-- The one-time code of each terminal: not the code, only what recognises it.
CREATE TABLE codes (
    terminal text     COLLATE "C" NOT NULL PRIMARY KEY,
    v        smallint NOT NULL CHECK (v = 1),
    state    text     NOT NULL CHECK (state IN ('open', 'reserved', 'spent', 'void')),
    expires  bigint   NOT NULL,
    body     bytea    NOT NULL
);
CREATE INDEX codes_live ON codes (expires) WHERE state IN ('open', 'reserved');

-- A serial number of a role is there once, for ever, and of one terminal. n is the order of writing.
CREATE TABLE certificates (
    n         bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    v         smallint NOT NULL CHECK (v = 1),
    role      text     COLLATE "C" NOT NULL CHECK (role IN ('terminal', 'agreement')),
    serial    text     COLLATE "C" NOT NULL,
    terminal  text     COLLATE "C" NOT NULL,
    issued    bigint   NOT NULL,
    not_after bigint   NOT NULL,
    revoked   bigint   NOT NULL, -- 0 for never
    key_hash  bytea    NOT NULL CHECK (length(key_hash) = 32),
    body      bytea    NOT NULL,
    UNIQUE (role, serial)
);
CREATE INDEX certificates_of ON certificates (terminal, n);
CREATE INDEX certificates_key ON certificates (key_hash, not_after);
CREATE TRIGGER certificates_stay BEFORE UPDATE ON certificates FOR EACH ROW
    WHEN ((new.n, new.role, new.serial, new.terminal) <> (old.n, old.role, old.serial, old.terminal))
    EXECUTE FUNCTION refuse('a certificate stays with its terminal');
CREATE TRIGGER certificates_last BEFORE DELETE ON certificates FOR EACH ROW EXECUTE FUNCTION refuse('certificates are kept');

CREATE TABLE approvals (
    n       bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    v       smallint NOT NULL CHECK (v = 1),
    id      text     COLLATE "C" NOT NULL UNIQUE,
    created bigint   NOT NULL,
    body    bytea    NOT NULL
);
CREATE INDEX approvals_age ON approvals (created, n);

-- The highest key id of each key set that was ever seen. It only rises. key_id has the bytes that package dukpt gives it.
CREATE TABLE highest (
    key_set text     COLLATE "C" NOT NULL PRIMARY KEY,
    v       smallint NOT NULL CHECK (v = 1),
    key_id  bytea    NOT NULL CHECK (length(key_id) IN (8, 10))
);
CREATE TRIGGER highest_rises BEFORE UPDATE ON highest FOR EACH ROW WHEN (new.key_set <> old.key_set OR new.key_id <= old.key_id)
    EXECUTE FUNCTION refuse('the highest key id does not rise');
CREATE TRIGGER highest_stays BEFORE DELETE ON highest FOR EACH ROW EXECUTE FUNCTION refuse('the highest key id is kept');

-- The registry feed. A sequence of an epoch is there once, and its record never changes.
CREATE TABLE feed (
    epoch    bigint   NOT NULL CHECK (epoch >= 0),
    sequence bigint   NOT NULL CHECK (sequence >= 0),
    v        smallint NOT NULL CHECK (v = 1),
    object   text     COLLATE "C" NOT NULL,
    envelope bytea    NOT NULL,
    PRIMARY KEY (epoch, sequence)
);
CREATE INDEX feed_object ON feed (epoch, object, sequence);
CREATE TRIGGER feed_stays BEFORE UPDATE ON feed FOR EACH ROW EXECUTE FUNCTION refuse('a record of the feed does not change');

-- What other services have to be told.
CREATE TABLE tasks (
    id   text     COLLATE "C" NOT NULL PRIMARY KEY,
    v    smallint NOT NULL CHECK (v = 1),
    due  bigint   NOT NULL,
    body bytea    NOT NULL
);
CREATE INDEX tasks_due ON tasks (due, id);
