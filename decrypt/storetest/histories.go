package storetest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
)

// testHistories does the same things, drawn at random, to the store and to the model: every outcome and, in the end,
// everything stored must be equal.
func testHistories(t *testing.T, h Harness) {
	root := t.TempDir()
	drawn := 0
	rapid.Check(t, func(rt *rapid.T) {
		if drawn++; testing.Short() && drawn > 10 {
			return
		}
		dir, err := os.MkdirTemp(root, "history")
		if err != nil {
			rt.Fatal(err)
		}
		history := &history{t: t, h: h, dir: dir, store: h.Open(t, dir), model: NewModel()}
		defer func() { _ = history.store.Close() }() // the next history has a store of its own
		steps := rapid.IntRange(1, 30).Draw(rt, "steps")
		for range steps {
			history.step(rt)
		}
		if d := compare(history.model.Contents(), h.Dump(t, history.store)); d != "" {
			rt.Fatalf("the store differs from the model (-model +store):\n%s", d)
		}
	})
}

type history struct {
	t     *testing.T
	h     Harness
	dir   string
	store decrypt.Store
	model *Model
	sets  []decrypt.ClaimSet // claimed before, accepted or not
}

// ordinals are around the edges of the window: with few of them, messages meet.
var ordinals = []uint32{1, 2, 3, windowW, windowW + 1, windowW + 2, windowJ, windowJ + 1, 2 * windowJ, 2*windowJ + 1}

func (h *history) step(rt *rapid.T) {
	switch kind := rapid.SampledFrom([]string{"claim", "claim", "claim", "again", "resend", "reverse", "answer", "answer", "report", "fence", "raise", "reopen"}).Draw(rt, "kind"); kind {
	case "claim":
		h.claim(rt, h.draw(rt))
	case "again":
		if len(h.sets) > 0 {
			h.claim(rt, rapid.SampledFrom(h.sets).Draw(rt, "which"))
		}
	case "resend":
		if len(h.sets) > 0 {
			inner := rapid.SampledFrom(h.sets).Draw(rt, "which")
			if inner.Digest != inner.Original { // a resend carries no resend
				return
			}
			h.claim(rt, named(resent(h.name(rt), rapid.SampledFrom(ordinals).Draw(rt, "outer"), inner)))
		}
	case "reverse":
		of, n := rapid.SampledFrom(ordinals).Draw(rt, "of"), rapid.SampledFrom(ordinals).Draw(rt, "n")
		h.claim(rt, named(reversal(h.name(rt), n, of)))
	case "answer":
		h.answer(rt)
	case "report":
		h.report(rt)
	case "fence":
		h.fence(rt)
	case "raise":
		h.raise(rt)
	case "reopen":
		if err := h.store.Close(); err != nil {
			rt.Fatalf("close: %v", err)
		}
		h.store = h.h.Open(h.t, h.dir)
	}
}

// name draws one of few names, so that equal messages come about.
func (h *history) name(rt *rapid.T) string {
	return fmt.Sprint("m", rapid.IntRange(1, 6).Draw(rt, "name"))
}

// draw makes a message with any claims.
func (h *history) draw(rt *rapid.T) decrypt.ClaimSet {
	n := rapid.SampledFrom(ordinals).Draw(rt, "n")
	name := h.name(rt)
	var claims []decrypt.Claim
	for range rapid.IntRange(1, 3).Draw(rt, "claims") {
		id := rapid.SampledFrom([]dukpt.KeyID{pinID, dataID}).Draw(rt, "id")
		p := rapid.SampledFrom([]decrypt.Purpose{decrypt.PurposePIN, decrypt.PurposeData, decrypt.PurposeMAC, decrypt.PurposeSignIn}).Draw(rt, "purpose")
		make := claim
		if rapid.Bool().Draw(rt, "bare") {
			make = bare
		}
		c := make(id, n, p, fmt.Sprint(name, rapid.IntRange(0, 1).Draw(rt, "content")))
		c.Treatment = treatment(rapid.SampledFrom([]string{"zone", "zone", "zone", "other"}).Draw(rt, "key"), rapid.SampledFrom([]string{"v1", "v2"}).Draw(rt, "version"))
		c.Floor = rapid.SampledFrom([]uint32{0, 0, 0, 2}).Draw(rt, "imported")
		claims = append(claims, c)
	}
	s := set(fmt.Sprint(name, "@", n), claims...)
	for range rapid.IntRange(0, 2).Draw(rt, "grants") {
		s.Grants = append(s.Grants, rapid.SampledFrom(grants).Draw(rt, "grant"))
	}
	return named(s)
}

// grants are few and small, so that they are soon used up. One of them is read with another count later.
var grants = []decrypt.Grant{{ID: "G1", Count: 1}, {ID: "G2", Count: 2}, {ID: "G2", Count: 3}}

// named gives a set the digest of what its message would hold: all but the treatments, which are the caller's.
func named(s decrypt.ClaimSet) decrypt.ClaimSet {
	text := fmt.Sprint(s.Audit.Object, s.Closes)
	for _, c := range s.Claims {
		text += fmt.Sprint(c.Row(), c.Content, c.Authenticated)
	}
	if s.Original == s.Digest {
		s.Original = digest(text)
	}
	s.Digest = digest(text)
	return s
}

// times are around the horizon of what was first seen at noon. The clock of a host may go back.
var times = []time.Time{noon, noon, noon, noon.Add(-time.Hour), noon.Add(horizonR), noon.Add(horizonR + time.Millisecond)}

func (h *history) claim(rt *rapid.T, set decrypt.ClaimSet) {
	set = at(set, rapid.SampledFrom(times).Draw(rt, "time"))
	want, wantErr := h.model.Claim(h.t.Context(), set)
	got, err := h.store.Claim(h.t.Context(), set)
	if codeOf(err) != codeOf(wantErr) || (err == nil) != (wantErr == nil) {
		rt.Fatalf("claim %s: %v, the model says %v", set.Audit.Object, err, wantErr)
	}
	if d := compare(want, got); d != "" {
		rt.Fatalf("claim %s (-model +store):\n%s", set.Audit.Object, d)
	}
	h.sets = append(h.sets, set)
}

// report has some evidence known.
func (h *history) report(rt *rapid.T) {
	key := decrypt.CounterKey{BaseKey: base, KeyID: rapid.SampledFrom([]dukpt.KeyID{pinID, dataID, otherID}).Draw(rt, "id")}
	evidence := rapid.Uint64Range(0, 3).Draw(rt, "evidence")
	for _, s := range []decrypt.Store{h.model, h.store} {
		if err := s.EvidenceReported(h.t.Context(), key, evidence); err != nil {
			rt.Fatalf("evidence reported: %v", err)
		}
	}
}

// fence puts all counters behind one, which is small: what comes next is not all refused.
func (h *history) fence(rt *rapid.T) {
	n := rapid.SampledFrom([]uint32{1, 2, windowW}).Draw(rt, "ordinals")
	want, _ := h.model.Fence(h.t.Context(), n, record("store/fence", "all"))
	if got, err := h.store.Fence(h.t.Context(), n, record("store/fence", "all")); err != nil || got != want {
		rt.Fatalf("fence: %d counters, %v, the model says %d", got, err, want)
	}
}

// raise raises the floors of some counters by a little.
func (h *history) raise(rt *rapid.T) {
	var floors []decrypt.Floor
	for _, id := range []dukpt.KeyID{pinID, dataID, otherID}[rapid.IntRange(0, 2).Draw(rt, "from"):] {
		floors = append(floors, floorOf(id, rapid.SampledFrom([]uint32{1, 2, windowW}).Draw(rt, "floor")))
	}
	want, _ := h.model.Raise(h.t.Context(), floors, record("store/raise", "some"))
	if got, err := h.store.Raise(h.t.Context(), floors, record("store/raise", "some")); err != nil || got != want {
		rt.Fatalf("raise: %d counters, %v, the model says %d", got, err, want)
	}
}

func (h *history) answer(rt *rapid.T) {
	if len(h.sets) == 0 {
		return
	}
	a := answer(rapid.SampledFrom(h.sets).Draw(rt, "which"), rapid.SampledFrom([]message.Result{message.Approved, message.Declined}).Draw(rt, "result"))
	want, wantErr := h.model.RecordAnswer(h.t.Context(), a)
	got, err := h.store.RecordAnswer(h.t.Context(), a)
	if codeOf(err) != codeOf(wantErr) || (err == nil) != (wantErr == nil) {
		rt.Fatalf("answer: %v, the model says %v", err, wantErr)
	}
	if d := compare(want, got); d != "" {
		rt.Fatalf("answer (-model +store):\n%s", d)
	}
	want, wantOK, _ := h.model.LookupAnswer(h.t.Context(), a.Digest)
	got, ok, err := h.store.LookupAnswer(h.t.Context(), a.Digest)
	if d := compare(want, got); err != nil || ok != wantOK || d != "" {
		rt.Fatalf("look-up: %v, %v, the model says %v (-model +store):\n%s", ok, err, wantOK, d)
	}
}
