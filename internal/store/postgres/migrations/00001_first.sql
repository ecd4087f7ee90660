-- +goose Up
-- The tables are those of the SQLite store, with the same meaning; the audit log, and what else belongs to one service and not to
-- all, has the name of its instance. Times are Unix milliseconds. A counter, a ksn and a key_id have the bytes that package dukpt
-- gives them.

-- One row for each initial key that anything was claimed under. high, seen and floor are ordinals, 0 for none yet.
-- fences, released and spent are CBOR arrays of [from, to]; status and grants are for later use. Services that claim under the
-- same key wait for each other at this row.
CREATE TABLE counters (
    base_key  bytea    NOT NULL CHECK (length(base_key) = 16),
    key_id    bytea    NOT NULL CHECK (length(key_id) IN (8, 10)),
    v         smallint NOT NULL CHECK (v = 1),
    high      bigint   NOT NULL CHECK (high BETWEEN 0 AND 4294967295),
    seen      bigint   NOT NULL CHECK (seen BETWEEN high AND 4294967295),
    floor     bigint   NOT NULL CHECK (floor BETWEEN 0 AND 4294967295),
    fences    bytea    NOT NULL,
    released  bytea    NOT NULL,
    spent     bytea    NOT NULL,
    conflicts bigint   NOT NULL CHECK (conflicts >= 0),
    evidence  bigint   NOT NULL CHECK (evidence BETWEEN 0 AND conflicts),
    reported  bigint   NOT NULL CHECK (reported BETWEEN 0 AND evidence),
    status    smallint NOT NULL DEFAULT 0 CHECK (status = 0),
    grants    bytea    NOT NULL DEFAULT '\x80' CHECK (grants = '\x80'),
    PRIMARY KEY (base_key, key_id)
) WITH (fillfactor = 80);
CREATE INDEX unreported ON counters (base_key, key_id) WHERE evidence > reported;

-- One row for each content that was released under a transaction key for a purpose; n counts them. A row without content
-- is a tombstone: its message was reversed before it arrived. Each row has its counter in counters, which is written by the same
-- statement: a foreign key would look for it again, once for each row.
CREATE TABLE claims (
    base_key      bytea    NOT NULL,
    key_id        bytea    NOT NULL,
    counter       bigint   NOT NULL CHECK (counter BETWEEN 1 AND 4294967295),
    purpose       smallint NOT NULL CHECK (purpose BETWEEN 1 AND 7),
    n             smallint NOT NULL CHECK (n BETWEEN 0 AND 255),
    v             smallint NOT NULL CHECK (v = 1),
    content       bytea    CHECK (length(content) = 32),
    claim_key     bigint   NOT NULL,
    fill_key      bigint   NOT NULL,
    treatment     bytea,
    authenticated boolean  NOT NULL,
    mac_ksn       bytea,
    closed_by     bytea    CHECK (length(closed_by) = 32),
    collided      boolean  NOT NULL,
    first_seen    bigint   NOT NULL,
    tries         integer  NOT NULL CHECK (tries >= 0),
    PRIMARY KEY (base_key, key_id, counter, purpose, n)
) WITH (fillfactor = 90);

-- One row for each message whose claims were accepted.
CREATE TABLE requests (
    digest   bytea    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    v        smallint NOT NULL CHECK (v = 1),
    original bytea    NOT NULL CHECK (length(original) = 32),
    tenant   text     NOT NULL,
    context  bytea    NOT NULL,
    at       bigint   NOT NULL
);

-- The decision on a message, and the acks that tell it: one for each message that asked.
CREATE TABLE answers (
    original bytea    NOT NULL PRIMARY KEY CHECK (length(original) = 32),
    v        smallint NOT NULL CHECK (v = 1),
    tenant   text     NOT NULL,
    result   text     NOT NULL,
    body     bytea    NOT NULL,
    at       bigint   NOT NULL
);

CREATE TABLE acks (
    digest   bytea    NOT NULL PRIMARY KEY REFERENCES requests (digest),
    v        smallint NOT NULL CHECK (v = 1),
    original bytea    NOT NULL REFERENCES answers (original),
    ack      bytea    NOT NULL,
    ksn      bytea,
    content  bytea    CHECK (length(content) = 32),
    at       bigint   NOT NULL
);

-- One row for each drain grant that messages were let through under; used is how many. A grant is never used for another.
CREATE TABLE drains (
    grant_id text     NOT NULL PRIMARY KEY CHECK (length(grant_id) BETWEEN 1 AND 64),
    v        smallint NOT NULL CHECK (v = 1),
    used     bigint   NOT NULL CHECK (used BETWEEN 1 AND 4294967295)
);

-- One row for each message that is evidence, against which counter. The same again is none.
CREATE TABLE accused (
    digest   bytea    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    v        smallint NOT NULL CHECK (v = 1),
    base_key bytea    NOT NULL,
    key_id   bytea    NOT NULL
);

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

-- Waits, in the order given, until nobody else holds what a batch works on. The order is the same for all, so nobody waits in a
-- circle. What has no row yet is locked by a number that its key gives; who waited there looks for the row again.
-- +goose StatementBegin
CREATE FUNCTION lock_for_claims(names bigint[], base_keys bytea[], key_ids bytea[], numbers bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    FOR i IN 1..cardinality(names) LOOP
        PERFORM pg_advisory_xact_lock(names[i]);
    END LOOP;
    FOR i IN 1..cardinality(base_keys) LOOP
        PERFORM 1 FROM counters WHERE base_key = base_keys[i] AND key_id = key_ids[i] FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            PERFORM pg_advisory_xact_lock(numbers[i]);
            PERFORM 1 FROM counters WHERE base_key = base_keys[i] AND key_id = key_ids[i] FOR NO KEY UPDATE;
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd
