// Package registry keeps the registry of latchkey-provisiond and its audit log in a SQLite database.
//
// [Open] returns a [Store], which is a provision.Store. That a serial number belongs to one terminal, that a sequence of the
// feed has one record and that the highest key id of a set only rises are rules of the tables too.
//
// The file holds no secrets: of a one-time code only what recognises it, under a pepper that is kept elsewhere.
package registry
