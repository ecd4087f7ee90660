package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// testEachCounter reads every counter there is.
func testEachCounter(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	for n := range uint32(10) {
		claimed(t, s, sale(fmt.Sprint("s", n+1), n+1), decrypt.Fresh)
	}
	claimed(t, s, set("other", claim(otherID, 3, decrypt.PurposeMAC, "other")), decrypt.Fresh)
	if _, err := s.Claim(t.Context(), sale("replay", 3)); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Fatalf("claim: %v", err)
	}
	got := make(map[decrypt.CounterKey]decrypt.KeyIDState)
	err := s.EachCounter(t.Context(), func(key decrypt.CounterKey, state decrypt.KeyIDState) error {
		if _, ok := got[key]; ok {
			t.Errorf("counter %v twice", key)
		}
		got[key] = state
		return nil
	})
	if d := compare(h.Dump(t, s).States, got); err != nil || d != "" || len(got) != 3 {
		t.Errorf("each counter: %v (-held +got):\n%s", err, d)
	}
	enough, calls := errors.New("enough"), 0
	err = s.EachCounter(t.Context(), func(decrypt.CounterKey, decrypt.KeyIDState) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("an error ends it after %d calls with %v", calls, err)
	}
}
