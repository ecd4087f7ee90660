// Package decrypt is the host's side of a payment terminal: it verifies what a terminal sends, releases what is in it
// once, and acknowledges what the host decides.
//
// [Service.Transaction] takes a message as received: it verifies the MAC, decrypts card data, moves the PIN under a zone
// key, claims every key that was used, and only when the claims are durable gives the result. [Service.Answer] records the
// host's decision, the first one for good, and gives the acknowledgement for the terminal. The same message again gets the
// same answer; another content under a key that was used is refused, for ever. Everything that goes wrong is a [Refusal].
//
// A claim binds one transaction key and purpose to the content that was released under it. [Judge] decides on one claim,
// [Settle] on those of one message; a [Store] keeps them, with the answers and the audit log, and every store passes the
// suite in decrypt/storetest. Keys stay behind the seam of decrypt/engine.
//
// Which terminals there are, which keys they have and what they may do comes from a [Catalog]. Where a registration
// authority keeps that, a [Registry] stands for it: it is told what sign-ins prove and which keys are in use, and when it is
// not current, nothing is answered. What a blocked terminal has queued is let through under drain grants, which are counted
// with the claims.
//
// The package knows no HSM, no SQL and no HTTP. It does not protect against a host that is itself dishonest: whoever calls
// Transaction gets card data in the clear where the key set says so. It does not know who calls; that is for the transport
// to prove. The rules stand in docs/protocol.md.
package decrypt
