-- +goose Up
-- Times are Unix milliseconds. A key_id has the bytes that package dukpt gives it. Names compare as bytes.

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

-- The highest key id of each key set that was ever given out. It only rises. key_id has the bytes that package dukpt gives it.
CREATE TABLE highest (
    key_set text     COLLATE "C" NOT NULL PRIMARY KEY,
    v       smallint NOT NULL CHECK (v = 1),
    key_id  bytea    NOT NULL CHECK (length(key_id) IN (8, 10))
);
CREATE TRIGGER highest_rises BEFORE UPDATE ON highest FOR EACH ROW WHEN (new.key_set <> old.key_set OR new.key_id <= old.key_id)
    EXECUTE FUNCTION refuse('the highest key id does not rise');
CREATE TRIGGER highest_stays BEFORE DELETE ON highest FOR EACH ROW EXECUTE FUNCTION refuse('the highest key id is kept');

-- One row for each key id that was given out, for ever: without its row an id could be given out again. n counts them.
CREATE TABLE issued (
    n          bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    v          smallint NOT NULL CHECK (v = 1),
    key_set    text     COLLATE "C" NOT NULL,
    key_id     bytea    NOT NULL CHECK (length(key_id) IN (8, 10)),
    terminal   text     COLLATE "C" NOT NULL,
    slot       smallint NOT NULL CHECK (slot BETWEEN 1 AND 255),
    replaces   bytea    CHECK (length(replaces) IN (8, 10)),
    delivery   text     NOT NULL,
    agreement  bytea    NOT NULL CHECK (length(agreement) = 32),
    state      text     NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
    issued_at  bigint   NOT NULL,
    settled_at bigint   CHECK ((settled_at IS NULL) = (state = 'pending')),
    UNIQUE (key_set, key_id)
);
CREATE INDEX issued_pending ON issued (terminal, slot, n) WHERE state = 'pending';
CREATE TRIGGER issued_stays BEFORE DELETE ON issued FOR EACH ROW EXECUTE FUNCTION refuse('what was given out is kept');
CREATE TRIGGER issued_goes_on BEFORE UPDATE ON issued FOR EACH ROW
    WHEN ((new.n, new.key_set, new.key_id, new.terminal, new.slot) <> (old.n, old.key_set, old.key_id, old.terminal, old.slot)
        OR (old.state, new.state) NOT IN (('pending', 'active'), ('pending', 'retired'), ('active', 'retired')))
    EXECUTE FUNCTION refuse('what was given out does not change so');

-- The certificate of each agreement key. chain is a CBOR array of DER, the leaf first.
CREATE TABLE certified (
    terminal  text     COLLATE "C" NOT NULL,
    spki      bytea    NOT NULL CHECK (length(spki) = 32),
    v         smallint NOT NULL CHECK (v = 1),
    serial    text     COLLATE "C" NOT NULL UNIQUE,
    chain     bytea    NOT NULL,
    issued_at bigint   NOT NULL,
    PRIMARY KEY (terminal, spki)
);
