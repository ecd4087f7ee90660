// Package keydist is the key-distribution host (KDH): it gives out key ids and delivers initial keys to terminals.
//
// A [Host] answers three orders of the registration authority. Certify certifies the key-agreement key of a terminal.
// Deliver gives out the next key id of a key set, derives the initial key under it, wraps it for the terminal and signs
// the whole (keys/remote). Settle says that a terminal has proved to hold a key, or that an id is not used any more.
// [Handler] is their HTTP face and [Client] calls it.
//
// The registration authority is trusted for little. The host verifies the certificates of the terminal itself, takes what
// it knows about a key set from signed documents and never from an order, and delivers keys of sets that ask for an
// attested agreement key only to one that a maker certified, one of the [Makers] in a signed document. What it cannot
// verify is the session between terminal and registration authority: a registration authority that lies about it orders
// keys that the right terminal refuses.
//
// No key id is given out twice. An id is taken in a transaction of its own, together with its audit record, before its key
// is derived; whatever fails afterwards burns the id.
package keydist
