-- +goose Up
-- Of the evidence, how much the registration authority knows of. Nobody has told it what was counted before this column.
ALTER TABLE counters ADD COLUMN reported INTEGER NOT NULL DEFAULT 0 CHECK (reported BETWEEN 0 AND evidence);
CREATE INDEX unreported ON counters (base_key, key_id) WHERE evidence > reported;

-- One row for each message that is evidence, against which counter. The same again is none.
CREATE TABLE accused (
    digest   BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    v        INTEGER NOT NULL CHECK (v = 1),
    base_key BLOB    NOT NULL,
    key_id   BLOB    NOT NULL,
    FOREIGN KEY (base_key, key_id) REFERENCES counters (base_key, key_id)
) STRICT, WITHOUT ROWID;
