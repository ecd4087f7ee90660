package storetest

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// testFence closes what a lost database may have released: counters that are known, and those that are not.
func testFence(t *testing.T, h Harness) {
	const n = 20
	dir := t.TempDir()
	s := h.Open(t, dir)
	first := sale("s5", 5)
	claimed(t, s, first, decrypt.Fresh)
	known, err := s.Fence(t.Context(), n, record("store/fence", "all"))
	if err != nil || known != 2 {
		t.Fatalf("fence: %d counters, %v", known, err)
	}
	refused := func(what string, set decrypt.ClaimSet, code decrypt.Code) {
		t.Helper()
		if _, err := s.Claim(t.Context(), set); codeOf(err) != code {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	check := func() {
		t.Helper()
		claimed(t, s, first, decrypt.Resend) // what was claimed is answered as before
		refused("below", sale("s4", 4), decrypt.CodeKSNFenced)
		refused("at the fence", sale("s25", 5+n), decrypt.CodeKSNFenced)
		refused("a counter that nothing is known about", set("u", claim(otherID, n, decrypt.PurposeMAC, "u")), decrypt.CodeKSNFenced)
		state, err := s.Counters(t.Context(), base, otherID)
		if err != nil || state.Floor != n || state.Seen != 0 {
			t.Errorf("unknown: %+v, %v", state, err)
		}
	}
	check()
	refused("a reversal of what may be lost", sale("s6", 6), decrypt.CodeKSNFenced)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	check()
	claimed(t, s, sale("s26", 6+n), decrypt.Fresh)
	claimed(t, s, reversal("r27", 7+n, 3), decrypt.Fresh) // of a message that is fenced
	if _, err := s.Fence(t.Context(), n, record("store/fence", "all")); err != nil {
		t.Fatalf("a second fence: %v", err)
	}
	refused("behind the second fence", sale("s28", 8+n), decrypt.CodeKSNFenced)
	refused("behind both", set("v", claim(otherID, 2*n, decrypt.PurposeMAC, "v")), decrypt.CodeKSNFenced)
	claimed(t, s, set("w", claim(otherID, 2*n+1, decrypt.PurposeMAC, "w")), decrypt.Fresh)
	if leaves := h.Dump(t, s).Leaves; leaves[1].Action != "store/fence" || leaves[1].Sequence != 2 {
		t.Errorf("the log says %+v", leaves[1])
	}
}
