// Package sqlite is one SQLite file with one writer and an audit log.
//
// [Open] returns a [DB]. Its rooms, the folders below, keep in it what one daemon remembers: each brings its tables, and
// they share how a file is opened, written and audited. [DB.Update] hands a function to one writer that commits whatever is
// waiting as one transaction, in WAL mode with synchronous=FULL: a call returns after its commit is on the disk, and many
// calls share the cost of one. [DB.View] reads beside it and sees every commit that was acknowledged before. What is
// audited with [Tx.Audit] is committed with what it records, or not at all.
//
// A lock file beside the database keeps a second process out. [OpenAudit] reads the audit log without that lock, also while
// a daemon is running.
//
// The file holds no secrets; who writes to it can still undo what it protects, so it belongs to the service alone (mode
// 0600).
package sqlite
