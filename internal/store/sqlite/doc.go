// Package sqlite keeps claims, answers and the audit log in one SQLite file, for one daemon.
//
// [Open] returns a [DB], which is a decrypt.Store. Writes go through one goroutine that commits whatever is waiting as one
// transaction, in WAL mode with synchronous=FULL: a call returns after its commit is on the disk, and many calls share the
// cost of one. Reads use connections of their own and see every commit that was acknowledged before them.
//
// A lock file beside the database keeps a second process out. [OpenAudit] reads the audit log without that lock, also while
// a daemon is running.
//
// Nothing here expires: a row that is gone would let its message in again. The file holds no secrets, and no card number or
// PIN in any form; who writes to it can still undo what it protects, so it belongs to the service alone (mode 0600).
package sqlite
