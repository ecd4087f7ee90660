// Package claims keeps the claims, answers and audit log of latchkey-decryptd in a SQLite database.
//
// [Open] returns a [Store], which is a decrypt.Store. A refusal is committed with its audit record like anything else that
// is decided; of a failure nothing stays.
//
// Nothing here expires: a row that is gone would let its message in again. The file holds no secrets, and no card number or
// PIN in any form.
package claims
