// Package postgres keeps the claims, answers and audit logs of any number of latchkey-decryptd in one PostgreSQL database.
//
// [Open] returns a [Store], which is a decrypt.Store. Each service is an instance with a name and an audit log of its own; the
// claims are those of all. What waits in a service is settled as one batch: in one transaction its counters are locked in an order
// that is the same for everybody, read, judged by decrypt.Settle and written by one statement. So one KSN is released for one
// content, whichever service it comes to. No verdict comes from what a service remembers.
//
// [Open] refuses a server that would forget what it has acknowledged ([ErrUnsafe]), and says what the others promise
// ([Promise]). The settings are looked at again in every transaction. A commit whose outcome the service could not see, because
// the connection was lost or the standby did not confirm it, is looked up before anybody is told anything: over a new connection,
// once the session that had made it is over. Where the database has lost a commit that was acknowledged, nothing is answered any
// more ([ErrBehind]).
//
// Nothing here expires: a row that is gone would let its message in again. The database holds no secrets, and no card number or
// PIN in any form.
package postgres
