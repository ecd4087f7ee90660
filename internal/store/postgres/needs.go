package postgres

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

// needs are the rows that calls look at. What is locked is changed by nobody else until the transaction ends.
type needs struct {
	all      bool                        // every counter, locked
	counters map[decrypt.CounterKey]bool // locked, with everything that is claimed under them
	keys     map[claimKey]bool           // whose claims are read, of every purpose
	requests map[message.Digest]bool     // with their acks, and what was decided on the message that each is about
	answers  map[message.Digest]bool     // by original
	deciding map[message.Digest]bool     // originals, locked
	accused  map[message.Digest]bool
	grants   map[string]bool // locked
}

// claimKey names a transaction key.
type claimKey struct {
	base keys.Fingerprint
	ksn  dukpt.KSN
}

func newNeeds() *needs {
	return &needs{
		counters: make(map[decrypt.CounterKey]bool), keys: make(map[claimKey]bool), requests: make(map[message.Digest]bool),
		answers: make(map[message.Digest]bool), deciding: make(map[message.Digest]bool), accused: make(map[message.Digest]bool),
		grants: make(map[string]bool),
	}
}

// add adds what another call needs.
func (n *needs) add(o *needs) {
	n.all = n.all || o.all
	maps.Copy(n.counters, o.counters)
	maps.Copy(n.keys, o.keys)
	maps.Copy(n.requests, o.requests)
	maps.Copy(n.answers, o.answers)
	maps.Copy(n.deciding, o.deciding)
	maps.Copy(n.accused, o.accused)
	maps.Copy(n.grants, o.grants)
}

// needsOfClaims are those of decrypt.Settle and of the answer to the message.
func needsOfClaims(set *decrypt.ClaimSet) *needs {
	n := newNeeds()
	for i := range set.Claims {
		c := &set.Claims[i]
		n.counters[c.Row().Counter()] = true
		n.keys[claimKey{c.BaseKey, c.KSN}] = true
	}
	if c := set.Closes; c != nil {
		n.counters[decrypt.CounterKey{BaseKey: c.BaseKey, KeyID: c.MACKSN.KeyID()}] = true
		n.keys[claimKey{c.BaseKey, c.MACKSN}] = true
	}
	n.requests[set.Digest] = true
	n.answers[set.Original] = true
	n.accused[set.Digest], n.accused[set.Original] = true, true
	for _, g := range set.Grants {
		n.grants[g.ID] = true
	}
	return n
}

// needsOfAnswer are those of a decision.
func needsOfAnswer(a *decrypt.Answer) *needs {
	n := newNeeds()
	n.requests[a.Digest] = true
	n.answers[a.Original] = true
	n.deciding[a.Original] = true
	return n
}

// needsOfLookup are those of what is known about a digest.
func needsOfLookup(digest message.Digest) *needs {
	n := newNeeds()
	n.requests[digest] = true
	n.answers[digest] = true
	return n
}

// counterBytes are the columns base_key and key_id.
type counterBytes struct{ base, id []byte }

func bytesOf(k decrypt.CounterKey) counterBytes {
	return counterBytes{columns.Fingerprint(k.BaseKey), k.KeyID.Append(nil)}
}

// locks are the arguments of lock_for_claims, in the order that is the same everywhere.
func (n *needs) locks(schema string) []any {
	names := make([]int64, 0, len(n.deciding)+len(n.grants))
	for original := range n.deciding {
		names = append(names, number(schema, "answer", original[:]))
	}
	for grant := range n.grants {
		names = append(names, number(schema, "grant", []byte(grant)))
	}
	slices.Sort(names)
	counters := make([]counterBytes, 0, len(n.counters))
	for k := range n.counters {
		counters = append(counters, bytesOf(k))
	}
	slices.SortFunc(counters, func(a, b counterBytes) int {
		return cmp.Or(bytes.Compare(a.base, b.base), bytes.Compare(a.id, b.id))
	})
	bases, ids, numbers := make([][]byte, len(counters)), make([][]byte, len(counters)), make([]int64, len(counters))
	for i, c := range counters {
		bases[i], ids[i], numbers[i] = c.base, c.id, number(schema, "counter", slices.Concat(c.base, c.id))
	}
	return []any{slices.Compact(names), bases, ids, numbers}
}
