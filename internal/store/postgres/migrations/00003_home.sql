-- +goose Up
-- Which server, and which of its histories, the claims were in when they were last claimed: system identifier, timeline, and object identifier of this table. A standby that takes
-- the place of its primary, and a backup that is restored, begin another timeline, and a dump that is loaded has other tables. waited says that whatever was acknowledged there had
-- reached the standby. NULL: nobody has looked yet.
ALTER TABLE fence
    ADD COLUMN home   text    CHECK (home ~ '^[0-9]{1,20}/[0-9]{1,10}/[0-9]{1,10}$'),
    ADD COLUMN waited boolean NOT NULL DEFAULT false;
