package storetest

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/message"
)

// testMixed shows fields of one sale again, inside of another message.
func testMixed(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	claimed(t, s, sale("s1", 1), decrypt.Fresh)
	before := h.Dump(t, s)
	mac := func(n uint32) decrypt.Claim { return claim(dataID, n, decrypt.PurposeMAC, fmt.Sprint("mac ", n)) }
	captured, own := sale("s1", 1).Claims[1:], claim(dataID, 2, decrypt.PurposeData, "data of its own")
	wider := claim(dataID, 1, decrypt.PurposeData, "more data")
	for name, set := range map[string]decrypt.ClaimSet{
		"a captured PIN and card data": set("m2", mac(2), captured[0], captured[1]),
		"a captured PIN":               set("m3", mac(2), captured[0], own),
		"captured card data":           set("m4", mac(2), claim(pinID, 2, decrypt.PurposePIN, "pin"), captured[1]),
		"inside a resend":              resent("m5", 9, set("m6", mac(2), captured[0])),
		"more under the same MAC":      set("m7", sale("s1", 1).Claims[0], captured[0], wider),
	} {
		if _, err := s.Claim(t.Context(), set); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("%s: %v, want %s", name, err, decrypt.CodeKSNReplayed)
		}
	}
	after := h.Dump(t, s)
	unchanged(t, before, after)
	var conflicts, evidence uint64
	for _, state := range after.States {
		conflicts += state.Conflicts
		evidence += state.Evidence
	}
	if conflicts != 5 || evidence != 5 {
		t.Errorf("%d conflicts, %d evidence, want 5, 5", conflicts, evidence)
	}
	claimed(t, s, sale("s2", 2), decrypt.Fresh)
}

func testReversal(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	arrived, late := sale("arrived", 1), sale("late", 2)
	claimed(t, s, arrived, decrypt.Fresh)
	claimed(t, s, reversal("r3", 3, 1), decrypt.Fresh)
	claimed(t, s, reversal("r4", 4, 2), decrypt.Fresh)
	claimed(t, s, reversal("r3", 3, 1), decrypt.Resend)
	claimed(t, s, reversal("r5", 5, 1), decrypt.Fresh) // the second one changes nothing
	before := h.Dump(t, s)
	if got := before.Rows[arrived.Claims[0].Row()]; len(got) != 1 || got[0].ClosedBy != digest("r3") {
		t.Errorf("row of the reversed message: %+v", got)
	}
	if got := before.Rows[late.Claims[0].Row()]; len(got) != 1 || !got[0].Tombstone() || got[0].ClosedBy != digest("r4") {
		t.Errorf("row of the message that never came: %+v", got)
	}
	for name, set := range map[string]decrypt.ClaimSet{
		"the message again": arrived, "the message late": late, "a resend": resent("x6", 6, arrived), "a late resend": resent("x7", 7, late),
	} {
		if _, err := s.Claim(t.Context(), set); codeOf(err) != decrypt.CodeReversed {
			t.Errorf("%s: %v, want %s", name, err, decrypt.CodeReversed)
		}
	}
	if _, err := s.Claim(t.Context(), sale("other", 1)); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Errorf("another message under the reversed counter: %v", err)
	}
	unchanged(t, before, h.Dump(t, s))
}

func testSignIn(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	claimed(t, s, sale("s100", 100), decrypt.Fresh)
	signIn := func(n uint32, name string) decrypt.ClaimSet {
		return set(name, claim(dataID, n, decrypt.PurposeSignIn, name))
	}
	for _, c := range []struct {
		n       uint32
		name    string
		verdict decrypt.Verdict
		collide bool
	}{
		{101, "new", decrypt.Fresh, false},
		{101, "new", decrypt.Resend, false},
		{2, "below the floor", decrypt.Fresh, false},
		{100, "on the counter of a sale", decrypt.Fresh, true},
		{100, "on the counter of a sale", decrypt.Resend, true},
		{101, "on the counter of a sign-in", decrypt.Fresh, true},
		{101, "new", decrypt.Resend, false},
	} {
		out := claimed(t, s, signIn(c.n, c.name), c.verdict)
		if out.Claims[0].Collision != c.collide {
			t.Errorf("%s: collision %v, want %v", c.name, out.Claims[0].Collision, c.collide)
		}
	}
	for i := range decrypt.MaxSignIns {
		claimed(t, s, signIn(102, fmt.Sprint("number ", i)), decrypt.Fresh)
	}
	if _, err := s.Claim(t.Context(), signIn(102, "one too many")); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Errorf("sign-in %d: %v, want %s", decrypt.MaxSignIns+1, err, decrypt.CodeKSNReplayed)
	}
	claimed(t, s, sale("s101", 101), decrypt.Fresh) // a sign-in does not use up the message's own purpose
	state, err := s.Counters(t.Context(), base, dataID)
	if want := (decrypt.KeyIDState{High: 102, Seen: 102, Floor: 102 - windowW, Conflicts: 1, Evidence: 1}); err != nil || compare(want, state) != "" {
		t.Errorf("counters %+v %v, want %+v", state, err, want)
	}
}

// testResend sends messages inside of others: the fresh counter outside puts the one inside below the floor.
func testResend(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	lost, arrived := sale("lost", 10), sale("arrived", 11)
	claimed(t, s, arrived, decrypt.Fresh)
	if _, err := s.RecordAnswer(t.Context(), answer(arrived, message.Declined)); err != nil {
		t.Fatalf("answer: %v", err)
	}
	outer := resent("x80", 80, lost)
	if out := claimed(t, s, outer, decrypt.Fresh); out.Answer != nil {
		t.Errorf("answer %+v to a message that was lost", out.Answer)
	}
	again := resent("x81", 81, arrived)
	out := claimed(t, s, again, decrypt.Resend)
	if len(out.Claims) != 4 || out.Claims[0].Verdict != decrypt.Resend || out.Claims[3].Verdict != decrypt.Fresh {
		t.Errorf("claims %+v, want resends inside and a fresh one outside", out.Claims)
	}
	if out.Answer == nil || out.Answer.Result != message.Declined || len(out.Answer.Ack) != 0 {
		t.Fatalf("answer %+v, want the decision and no ack for this digest yet", out.Answer)
	}
	if _, err := s.RecordAnswer(t.Context(), answer(again, message.Approved)); codeOf(err) != decrypt.CodeAnswerConflict {
		t.Errorf("another decision on the resend: %v", err)
	}
	own := answer(again, message.Declined)
	got, err := s.RecordAnswer(t.Context(), own)
	if err != nil || !got.Again || string(got.Ack) != string(own.Ack) {
		t.Errorf("ack of the resend: %q %v %v", got.Ack, got.Again, err)
	}
	if out := claimed(t, s, again, decrypt.Resend); out.Answer == nil || string(out.Answer.Ack) != string(own.Ack) {
		t.Errorf("answer %+v, want the ack of this digest", out.Answer)
	}
	if a, ok, err := s.LookupAnswer(t.Context(), arrived.Digest); err != nil || !ok || string(a.Ack) == string(own.Ack) {
		t.Errorf("answer to the message itself: %+v %v %v", a, ok, err)
	}
	if _, err := s.Claim(t.Context(), sale("too late", 12)); codeOf(err) != decrypt.CodeKSNTooOld {
		t.Errorf("a message below the floor that is not inside a resend: %v", err)
	}
}
