package storetest

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// testEvidence has refusals say what they are evidence against, and remembers over a restart what was reported.
func testEvidence(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	pins, cards := decrypt.CounterKey{BaseKey: base, KeyID: pinID}, decrypt.CounterKey{BaseKey: base, KeyID: dataID}
	refused := func(what string, set decrypt.ClaimSet, code decrypt.Code, against decrypt.CounterKey) {
		t.Helper()
		out, err := s.Claim(t.Context(), set)
		if codeOf(err) != code {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
		if d := compare(decrypt.ClaimOutcome{Evidence: against}, out); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	unreported := func(want map[decrypt.CounterKey]uint64) {
		t.Helper()
		got := make(map[decrypt.CounterKey]uint64)
		err := s.EachUnreported(t.Context(), func(key decrypt.CounterKey, state decrypt.KeyIDState) error {
			got[key] = state.Evidence
			return nil
		})
		if d := compare(want, got); err != nil || d != "" {
			t.Errorf("unreported: %v (-want +got):\n%s", err, d)
		}
	}
	report := func(key decrypt.CounterKey, evidence uint64) {
		t.Helper()
		if err := s.EvidenceReported(t.Context(), key, evidence); err != nil {
			t.Errorf("evidence reported: %v", err)
		}
	}

	first := sale("s1", 1)
	if out := claimed(t, s, first, decrypt.Fresh); out.Evidence != (decrypt.CounterKey{}) {
		t.Errorf("evidence in what is accepted: %+v", out.Evidence)
	}
	refused("without a MAC", set("bare", bare(dataID, 1, decrypt.PurposeMAC, "bare")), decrypt.CodeKSNReplayed, decrypt.CounterKey{})
	refused("out of the window", sale("far", 2*windowJ), decrypt.CodeKSNOutOfWindow, decrypt.CounterKey{})
	unreported(nil)
	refused("another message", sale("other", 1), decrypt.CodeKSNReplayed, cards)
	refused("the same once more", sale("other", 1), decrypt.CodeKSNReplayed, decrypt.CounterKey{})
	refused("the same inside a resend", resent("x9", 9, sale("other", 1)), decrypt.CodeKSNReplayed, decrypt.CounterKey{})
	refused("a PIN once more", set("m2", claim(dataID, 2, decrypt.PurposeMAC, "m2"), first.Claims[1]), decrypt.CodeKSNReplayed, pins)
	claimed(t, s, resent("x10", 10, first), decrypt.Resend)
	for _, against := range []decrypt.CounterKey{cards, {}} { // the resend is what is wrong here, not the message inside
		refused("another resend under its KSN", resent("x10 too", 10, first), decrypt.CodeKSNReplayed, against)
	}
	unreported(map[decrypt.CounterKey]uint64{pins: 1, cards: 2})

	report(cards, 1)
	unreported(map[decrypt.CounterKey]uint64{pins: 1, cards: 2})
	report(cards, 2)
	report(cards, 1) // too late
	report(decrypt.CounterKey{BaseKey: base, KeyID: otherID}, 5)
	unreported(map[decrypt.CounterKey]uint64{pins: 1})
	if _, ok := h.Dump(t, s).States[decrypt.CounterKey{BaseKey: base, KeyID: otherID}]; ok {
		t.Error("a counter came about by what was reported of it")
	}
	report(pins, 7) // more than there is
	unreported(nil)

	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	unreported(nil)
	claimed(t, s, sale("s2", 2), decrypt.Fresh) // a claim leaves it alone
	refused("the same after opening again", sale("other", 1), decrypt.CodeKSNReplayed, decrypt.CounterKey{})
	unreported(nil)
	refused("after opening again", set("m3", claim(dataID, 3, decrypt.PurposeMAC, "m3"), first.Claims[1]), decrypt.CodeKSNReplayed, pins)
	unreported(map[decrypt.CounterKey]uint64{pins: 2})
	if state := h.Dump(t, s).States[cards]; state.Evidence != 2 || state.Reported != 2 {
		t.Errorf("state %+v", state)
	}
}
