package storetest

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/message"
)

const (
	smallW        = 24 // windows that few sales reach the edges of
	smallJ        = 60
	rememberedFor = 90 * 24 * time.Hour
	offlineSales  = 6 // at most, that wait at a till
	importedUpTo  = 20
)

// till is a terminal that follows the protocol: it sends the same bytes until they are answered, wraps them when it has lost power
// on the way, and reverses what is not answered for long.
type till struct {
	w         *world
	index     int
	pin, data dukpt.KeyID
	cloned    bool   // somebody else has its keys: what becomes of its sales is not promised
	next      uint32 // ordinal
	floor     uint32 // ordinal up to which another host has answered, before the keys came here; 0 for none
	open      []*sales
}

// sales is one sale on its way to an answer.
type sales struct {
	t        *till
	ordinal  uint32
	first    *letter // the sale
	at       *letter // what is sent: the sale, or a resend that carries it
	reversal *letter // what is sent instead, since the till gave up
	tries    int
	done     bool
}

var ksns sync.Map // by id and ordinal: computing them is most of the work of a letter

func ksnOf(id dukpt.KeyID, n uint32) dukpt.KSN {
	type key struct {
		id dukpt.KeyID
		n  uint32
	}
	if k, ok := ksns.Load(key{id, n}); ok {
		return k.(dukpt.KSN)
	}
	k := ksn(id, n)
	ksns.Store(key{id, n}, k)
	return k
}

var tillIDs = func() (out [5][2]dukpt.KeyID) {
	for i := range out {
		out[i][0] = must(dukpt.ParseKeyID(fmt.Sprintf("FFFF98765432%02XE00000", 0x10+2*i)))
		out[i][1] = must(dukpt.ParseKeyID(fmt.Sprintf("12345678901234%02X", 0x50+i)))
	}
	return out
}()

func newTill(w *world, i int) *till {
	t := &till{w: w, index: i, pin: tillIDs[i][0], data: tillIDs[i][1], cloned: i == 0 && w.chance(50), next: 1}
	if w.chance(40) {
		t.floor = 1 + w.rng.Uint32N(importedUpTo)
		t.next = t.floor + 1
	}
	return t
}

// claimOf is a claim of a till. Its treatment is a name here: a replica resolves it.
func (t *till) claimOf(id dukpt.KeyID, n uint32, p decrypt.Purpose, content string) decrypt.Claim {
	c := decrypt.Claim{
		BaseKey: base, KSN: ksnOf(id, n), Purpose: p, Content: contentOf(t, content), ClaimKeyVersion: 1, FillKeyVersion: 1,
		Treatment: []byte("zone"), Authenticated: true, MACKSN: ksnOf(t.data, n), MaxContents: 1, Windowed: true, W: smallW, J: smallJ, Floor: t.floor,
	}
	return c
}

// bareClaim is a claim of an insider, which no MAC covers.
func (t *till) bareClaim(id dukpt.KeyID, n uint32, p decrypt.Purpose, content string) decrypt.Claim {
	c := t.claimOf(id, n, p, content)
	c.Authenticated, c.MACKSN, c.Windowed, c.W, c.J = false, dukpt.KSN{}, false, 0, 0
	return c
}

func contentOf(t *till, text string) decrypt.Content {
	return decrypt.Content(sha256.Sum256(fmt.Appendf(nil, "%d %s", t.index, text)))
}

func (t *till) letter(name string, claims ...decrypt.Claim) *letter {
	d := digest(fmt.Sprint(t.index, " ", name))
	return &letter{from: t, set: decrypt.ClaimSet{
		Digest: d, Original: d, Tenant: "SHOP", Context: []byte("context"), Claims: claims,
		Audit: audit.Record{Action: "transaction/sale", Object: name, Digest: d},
	}}
}

func (t *till) saleLetter(name string, n uint32) *letter {
	return t.letter(name,
		t.claimOf(t.data, n, decrypt.PurposeMAC, name+" mac"),
		t.claimOf(t.pin, n, decrypt.PurposePIN, name+" pin"),
		t.claimOf(t.data, n, decrypt.PurposeData, name+" data"))
}

// wrapped is a resend that carries a letter, under a fresh ordinal.
func (t *till) wrapped(inner *letter, n uint32) *letter {
	name := fmt.Sprintf("resend %d", n)
	l := t.letter(name, append(append([]decrypt.Claim(nil), inner.set.Claims...), t.claimOf(t.data, n, decrypt.PurposeMAC, name))...)
	l.set.Original = inner.set.Digest
	return l
}

// spread is how far apart the ordinals of the open sales and the next one are.
func (t *till) spread() uint32 {
	if len(t.open) == 0 {
		return 0
	}
	return t.next - t.open[0].ordinal
}

func (t *till) ordinal() uint32 {
	n := t.next
	t.next++
	return n
}

// sell makes a sale, or a few while the till is offline, and comes back.
func (t *till) sell() {
	w := t.w
	if w.healed {
		return
	}
	burst := 1
	if w.chance(15) {
		burst = 1 + w.rng.IntN(offlineSales)
	}
	for range burst {
		if len(t.open) >= offlineSales || t.spread() >= smallW/2 {
			break
		}
		n := t.ordinal()
		s := &sales{t: t, ordinal: n, first: t.saleLetter(fmt.Sprintf("sale %d", n), n)}
		s.at = s.first
		t.open = append(t.open, s)
		w.posted = append(w.posted, s.first)
		w.after(w.some(time.Duration(burst)*time.Second), s.try)
	}
	w.after(w.some(12*time.Second), t.sell)
}

// try sends what there is to send, until it is answered.
func (s *sales) try() {
	w := s.t.w
	if s.done {
		return
	}
	s.tries++
	s.choose()
	l := s.at
	if s.reversal != nil {
		l = s.reversal
	}
	to := w.replicas[w.rng.IntN(len(w.replicas))]
	w.send(func() { to.receive(l, func(v verdict) { s.told(l, v) }) })
	w.after(2*time.Second+w.some(time.Duration(min(s.tries, 4))*time.Second), s.try)
}

// choose has the till lose power, or give up, now and then.
func (s *sales) choose() {
	t := s.t
	if s.reversal != nil || s.tries < 3 || t.spread() >= smallW-4 {
		return
	}
	switch {
	case t.w.chance(15): // after a power cut the same bytes are wrapped under a fresh KSN
		s.at = t.wrapped(s.first, t.ordinal())
	case t.w.chance(5):
		n := t.ordinal()
		name := fmt.Sprintf("reversal %d", n)
		s.reversal = t.letter(name, t.claimOf(t.data, n, decrypt.PurposeMAC, name))
		s.reversal.set.Closes = &decrypt.Closes{BaseKey: base, MACKSN: s.first.set.Claims[0].KSN}
		s.reversal.closes(s.first)
	}
}

// closes gives a reversal a digest that tells what it reverses.
func (l *letter) closes(of *letter) {
	l.set.Digest = message.DigestOf(append(l.set.Digest[:], of.set.Digest[:]...))
	l.set.Original, l.set.Audit.Digest = l.set.Digest, l.set.Digest
}

// told hears the answer to a letter.
func (s *sales) told(l *letter, v verdict) {
	t := s.t
	if s.done || v.code == decrypt.CodeStoreUnavailable {
		return
	}
	if v.code != "" {
		if s.reversal != nil && l != s.reversal { // of the sale, which was on its way when the till gave up
			return
		}
		if !t.cloned {
			t.w.oracle.fail("I5", "till %d, ordinal %d, %s is honest, and refused: %s", t.index, s.ordinal, l.set.Audit.Object, v.code)
		}
	} else if s.reversal != nil && l != s.reversal {
		return
	}
	s.done = true
	for i, one := range t.open {
		if one == s {
			t.open = append(t.open[:i:i], t.open[i+1:]...)
			break
		}
	}
}

// answered reports whether a sale got its answer, so that its claims are durable for sure.
func (t *till) answered(l *letter) bool {
	for _, s := range t.open {
		if s.first == l {
			return false
		}
	}
	return true
}

// attack has somebody try something, and comes back.
func (w *world) attack() {
	if w.healed {
		return
	}
	w.after(w.some(3*time.Second), w.attack)
	if len(w.posted) == 0 {
		return
	}
	seen := w.posted[w.rng.IntN(len(w.posted))]
	l := w.forge(seen)
	if l == nil {
		return
	}
	w.counts.attacks++
	times := 1
	if l == seen && l.from.cloned { // an honest sale would run into the cap, which is as it should be
		times = decrypt.TriesCap
	}
	for range times {
		for _, r := range w.replicas { // at both at once
			w.send(func() { r.receive(l, func(verdict) {}) })
		}
	}
}

// forge makes a letter of an attacker out of one that was seen; nil for none. What insiders do with contents that are not answered
// yet is left out: they can be first, which is not what the claims are against.
func (w *world) forge(seen *letter) *letter {
	t := seen.from
	n, pin := seen.ordinal(), seen.set.Claims[1]
	kind := w.rng.IntN(10)
	if !t.answered(seen) && kind < 3 {
		return nil
	}
	if !t.cloned && kind >= 6 && kind < 9 || t.floor == 0 && kind == 9 {
		return nil
	}
	w.serial++
	name := fmt.Sprintf("attack %d", w.serial)
	switch kind {
	case 0: // another PIN block or PAN under this KSN
		return t.insider(name, t.bareClaim(t.pin, n, decrypt.PurposePIN, name))
	case 1: // the same PIN under another zone key, or in another format
		c := t.bareClaim(t.pin, n, decrypt.PurposePIN, "")
		c.Content, c.Treatment = pin.Content, []byte("other")
		return t.insider(name, c)
	case 2: // the key of the PIN for what looks like card data
		return t.insider(name, t.bareClaim(t.data, n, decrypt.PurposeData, name))
	case 3: // a key that no sale used for this, perhaps long ago
		return t.insider(name, t.bareClaim(t.data, 1+w.rng.Uint32N(t.next), decrypt.PurposePIN, name))
	case 4: // a stranger's letter
		l := t.saleLetter(name, t.next+w.rng.Uint32N(smallJ))
		l.forged = true
		return l
	case 5:
		return seen
	case 6: // a clone sells under the same KSN
		return t.saleLetter(name, n)
	case 7: // a clone shows a captured PIN inside of a sale of its own
		l := t.saleLetter(name, t.ordinal())
		l.set.Claims[1] = pin
		return l
	case 8: // a clone far ahead, drained under a grant
		l := t.saleLetter(name, t.next+w.rng.Uint32N(2*smallJ))
		l.set.Grants = []decrypt.Grant{{ID: fmt.Sprint("G", t.index), Count: 2}}
		return l
	default: // what another host has answered, before the keys came here
		w.counts.imported++
		return t.saleLetter(name, 1+w.rng.Uint32N(t.floor))
	}
}

// insider is a call of somebody who has a certificate, and no key of the till.
func (t *till) insider(name string, claims ...decrypt.Claim) *letter {
	l := t.letter(name, claims...)
	l.from = nil
	return l
}

// ordinal of the MAC of a letter.
func (l *letter) ordinal() uint32 { return l.set.Claims[0].KSN.Ordinal() }
