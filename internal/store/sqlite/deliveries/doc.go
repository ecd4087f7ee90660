// Package deliveries keeps in a SQLite database which key ids latchkey-keyd gave out, and its audit log.
//
// [Open] returns a [Store], which is a keydist.Store. That a key id of a set is given out once, ever, is a rule of the tables
// too: no defect above them can write a second row for one, take a row away, or let a state or a highest id go back.
package deliveries
