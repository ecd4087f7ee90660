// Package feed follows what the registration authority says about terminals.
//
// The authority keeps one numbered list of signed records: each says all there is to know about one terminal, its status,
// its certificates and its keys, and carries the hash of the record before. A [Follower] asks for what is new by long
// polling, believes only what is signed and follows, and keeps the latest word on each terminal in memory. It is a
// [tlsconf.Gate]: a listener that asks it lets revoked terminals in no more, and with [tlsconf.Connections] it cuts those
// that are in. A follower that has not heard of the authority for a while is stale and admits no terminal.
//
// Who publishes makes records with [SignRecord] and heads with [SignHead], and hands out a [Page]. What listeners learn
// goes back by [Client.Observe].
//
// The feed does not keep a secret, and it does not protect from the authority itself: who holds its signing key decides.
// The formats and the rules stand in docs/protocol.md, section 4.
package feed

import "errors"

// Where the authority serves the feed, on its listener for services, and in which form.
const (
	PathFeed         = "/registry/feed"         // GET ?epoch=E&after=N
	PathObservations = "/registry/observations" // POST
	ContentType      = "application/cbor"       // of a page; observations and their answer are application/json
)

var (
	// ErrFormat is wrapped by errors about bytes that are not the one spelling of a record, a head, a page or observations,
	// and about values that break a rule.
	ErrFormat = errors.New("feed: malformed")
	// ErrSignature is wrapped by errors about what the registration authority of the tenant has not signed, or has
	// signed with a certificate that is not valid now.
	ErrSignature = errors.New("feed: not signed by the registration authority")
	// ErrOrder is wrapped by errors about records that do not follow what is known, or do not add up to the head.
	ErrOrder = errors.New("feed: records do not follow")
	// ErrRollback is wrapped by errors about a feed that has gone back behind what is known.
	ErrRollback = errors.New("feed: authority has gone back")
	// ErrStale is wrapped when the last sign of life of the authority is too old, or there was none, and by errors about
	// heads and epochs that are of another time than ours.
	ErrStale = errors.New("feed: stale")
)
