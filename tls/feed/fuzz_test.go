package feed

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// FuzzRecord: whatever ParseRecord accepts is valid and has exactly one spelling.
func FuzzRecord(f *testing.F) {
	first := full()
	first.Sequence, first.Previous = 1, [sha256.Size]byte{}
	for _, r := range []*Record{full(), first, firstRecord()} {
		f.Add(payload(f, r), []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		if again := payload(t, r); !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x", b, again)
		}
		if r.Sequence == 0 || r.Epoch == 0 || r.Terminal.Generation == 0 || r.Terminal.Status.String()[0] == 'i' {
			t.Fatalf("%x reads as %+v", b, r)
		}
		for i, s := range r.Terminal.Slots {
			if got, ok := r.Terminal.Key(s.Slot, s.KeyID); !ok || got != s || i > 0 && s.Slot < r.Terminal.Slots[i-1].Slot {
				t.Fatalf("%x has key %d out of order", b, i)
			}
		}
	})
}

// FuzzHead: whatever ParseHead accepts is valid and has exactly one spelling.
func FuzzHead(f *testing.F) {
	for _, h := range []*Head{
		{Tenant: tenant, Epoch: 1, Time: time.UnixMilli(1)},
		{Tenant: tenant, Epoch: 2, Sequence: 9, Hash: [32]byte{1}, Snapshot: [32]byte{2}, Objects: 3, Time: time.UnixMilli(1767225600123)},
	} {
		f.Add(payload(f, h), []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		h, err := ParseHead(b)
		if err != nil {
			return
		}
		if again := payload(t, h); !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x", b, again)
		}
		if h.Objects > h.Sequence || h.Epoch == 0 || h.Time.IsZero() {
			t.Fatalf("%x reads as %+v", b, h)
		}
	})
}

// FuzzPage: ParsePage, which reads by hand, accepts exactly what the decoder of everything else accepts, and reads the
// same.
func FuzzPage(f *testing.F) {
	for _, name := range []string{"least", "snapshot", "whole"} {
		f.Add(payload(f, pages[name]), []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		p, err := ParsePage(b)
		want, ok := parseByCodec(b)
		if (err == nil) != ok {
			t.Fatalf("%x: %v, and the codec accepts it: %t", b, err, ok)
		}
		if err != nil {
			return
		}
		if !reflect.DeepEqual(p, want) {
			t.Fatalf("%x reads as %+v, and by the codec as %+v", b, p, want)
		}
		if again := payload(t, p); !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x", b, again)
		}
	})
}

// FuzzObservations: whatever ParseObservations accepts is valid, and comes back from what Marshal writes.
func FuzzObservations(f *testing.F) {
	f.Add(payload(f, observed()), []byte{})
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		o, err := ParseObservations(b)
		if err != nil {
			return
		}
		again := payload(t, o)
		back, err := ParseObservations(again)
		if err != nil || back.size() != o.size() || !bytes.Equal(payload(t, back), again) { // an empty list is as good as none
			t.Fatalf("%s is written %s and comes back as %+v, %v", b, again, back, err)
		}
		if n := o.size(); n < 1 || n > MaxObservations {
			t.Fatalf("%d observations", n)
		}
	})
}

// history is all that an authority has said in two epochs, and what others say in its name.
type history struct {
	epochs   map[uint64]*registry // how each epoch ended
	verifier *Verifier
	records  map[string]opened // verified ones, by their envelope
	heads    map[string]*Head
	pages    map[request]*Page
	pool     [][]byte // envelopes to swap in
}

func newHistory(tb testing.TB) *history {
	tb.Helper()
	r, _ := newStory(tb)
	h := &history{epochs: make(map[uint64]*registry), records: make(map[string]opened), heads: make(map[string]*Head), pages: make(map[request]*Page)}
	h.epochs[1] = r.past(tb, len(r.log))
	r.restart(tb)
	r.status(tb, "T-1", keyset.StatusRetired)
	r.put(tb, "T-3", nil)
	r.status(tb, "T-3", keyset.StatusBlocked)
	h.epochs[2] = r.past(tb, len(r.log))
	var err error
	h.verifier, err = NewVerifier(r.trust.Services, tenant, nil)
	check(tb, err)
	for _, e := range h.epochs {
		h.pool = append(h.pool, e.log...)
	}
	gap := h.epochs[1].past(tb, 2) // signed, after a record that nobody has seen
	gap.hashes[1][0] ^= 1
	gap.put(tb, "T-1", nil)
	stranger := newRegistry(tb)
	stranger.put(tb, "T-1", nil)
	h.pool = append(h.pool, gap.log[2], stranger.log[0], stranger.mustPage(tb, 1, 1).Head)
	for _, envelope := range h.pool {
		if rec, hash, err := h.verifier.Record(envelope, r.signer.chain); err == nil {
			h.records[string(envelope)] = opened{rec, hash}
		}
	}
	return h
}

// request is who asks for a page, and when.
type request struct {
	epoch   uint64
	records int
	at      position
}

// page returns a true page of an epoch as it was after n records, for an asker at a position.
func (h *history) page(tb testing.TB, epoch uint64, n int, at position) *Page {
	tb.Helper()
	e := h.epochs[epoch]
	q := request{epoch, n % (len(e.log) + 1), at}
	p, ok := h.pages[q]
	if !ok {
		p = e.past(tb, q.records).mustPage(tb, at.epoch, at.sequence)
		head, err := h.verifier.Head(p.Head, p.Chain)
		check(tb, err)
		h.pages[q], h.heads[string(p.Head)] = p, head
	}
	clone := *p
	clone.Records = slices.Clone(p.Records)
	return &clone
}

// take lets a state take a page. Envelopes that were verified before are not verified again.
func (h *history) take(s *state, p *Page) error {
	head, ok := h.heads[string(p.Head)]
	if !ok {
		var err error
		if head, err = h.verifier.Head(p.Head, p.Chain); err != nil {
			return err
		}
	}
	var records []opened
	for _, envelope := range p.Records {
		r, ok := h.records[string(envelope)]
		if !ok {
			rec, hash, err := h.verifier.Record(envelope, p.Chain)
			if err != nil {
				return err
			}
			r = opened{rec, hash}
		}
		records = append(records, r)
	}
	c, err := s.judge(head, records)
	if err != nil {
		return err
	}
	s.apply(c)
	return nil
}

// holds demands that a state is one that the authority has been in.
func (h *history) holds(t *testing.T, s *state, before position) {
	t.Helper()
	if s.epoch < before.epoch || s.epoch == before.epoch && s.sequence < before.sequence {
		t.Fatalf("from %d, %d back to %d, %d", before.epoch, before.sequence, s.epoch, s.sequence)
	}
	if s.epoch == 0 {
		return
	}
	e := h.epochs[s.epoch]
	if e == nil || s.sequence > uint64(len(e.log)) {
		t.Fatalf("at epoch %d, sequence %d, where the authority never was", s.epoch, s.sequence)
	}
	latest := make(map[keyset.TerminalID]int)
	for i, id := range e.about[:s.sequence] {
		latest[id] = i
	}
	if len(latest) != len(s.terminals) || s.sequence > 0 && s.hash != e.hashes[s.sequence-1] {
		t.Fatalf("at epoch %d, sequence %d: %d terminals or a hash that the authority did not have there", s.epoch, s.sequence, len(s.terminals))
	}
	for id, i := range latest {
		if s.terminals[id].Record == nil || s.terminals[id].hash != e.hashes[i] {
			t.Fatalf("at epoch %d, sequence %d: another record of %s than the authority had signed there", s.epoch, s.sequence, id)
		}
	}
}

// change applies one of the changes that somebody in between could make.
func (h *history) change(p *Page, op, a, b byte) {
	if n := len(p.Records); n > 0 {
		i, j := int(a)%n, int(b)%n
		switch op % 6 {
		case 1: // leave one out
			p.Records = slices.Delete(slices.Clone(p.Records), i, i+1)
		case 2: // swap
			p.Records[i], p.Records[j] = p.Records[j], p.Records[i]
		case 3: // twice
			p.Records = slices.Insert(slices.Clone(p.Records), j, p.Records[i])
		case 4: // another one
			p.Records[i] = h.pool[int(b)%len(h.pool)]
		case 5: // a bit
			p.Records[i] = bytes.Clone(p.Records[i])
			p.Records[i][int(b)*7%len(p.Records[i])] ^= 1 << (b % 8)
		}
		return
	}
	if op%6 > 2 { // some more
		p.Records = append(p.Records, h.pool[int(a)%len(h.pool)])
	}
}

// FuzzFollow shows a follower pages that somebody in between has changed: whatever comes in whatever order, its state is
// always one that the authority has been in, and never goes back.
//
// Each 4 bytes of an input are one page: which (epoch, up to which record, for an asker who knows nothing or where the
// follower stands), and how it is changed.
func FuzzFollow(f *testing.F) {
	h := newHistory(f)
	honest := []byte{0, 2, 0, 0, 2, 4, 0, 0, 2, 5, 0, 0, 1, 2, 0, 0, 3, 5, 0, 0} // bit 0 epoch, bit 1 asker
	s := new(state)
	for page := range slices.Chunk(honest, 4) {
		check(f, h.take(s, h.asked(f, s, page)))
	}
	if s.epoch != 2 || s.sequence != 5 {
		f.Fatalf("the honest seed ends at %d, %d", s.epoch, s.sequence)
	}
	f.Add(honest)
	f.Add([]byte{0, 2, 0, 0, 2, 5, 5, 1, 1, 4, 0, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		s := new(state)
		for page := range slices.Chunk(input[:min(len(input), 32)], 4) {
			if len(page) < 4 {
				return
			}
			before := s.position
			_ = h.take(s, h.asked(t, s, page)) // refused or not, it must hold
			h.holds(t, s, before)
		}
	})
}

// asked makes the page that 4 bytes of an input stand for.
func (h *history) asked(tb testing.TB, s *state, in []byte) *Page {
	tb.Helper()
	at := position{}
	if in[0]&2 != 0 {
		at = s.position
	}
	p := h.page(tb, 1+uint64(in[0]&1), int(in[1]), at)
	h.change(p, in[2], in[3], in[3]>>4|in[0]&^3)
	return p
}
