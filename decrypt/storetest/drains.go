package storetest

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// testDrains counts messages under drain grants: fresh ones, each once, over a restart, and never beyond the count.
func testDrains(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	one, two := decrypt.Grant{ID: "G1", Count: 1}, decrypt.Grant{ID: "G2", Count: 2}
	used := func(want map[string]uint32) {
		t.Helper()
		if d := compare(want, h.Dump(t, s).Drained); d != "" {
			t.Errorf("counted (-want +got):\n%s", d)
		}
	}
	spent := func(set decrypt.ClaimSet) {
		t.Helper()
		before := h.Dump(t, s)
		if _, err := s.Claim(t.Context(), set); codeOf(err) != decrypt.CodeDrainGrantSpent {
			t.Errorf("claim %s: %v, want %s", set.Audit.Object, err, decrypt.CodeDrainGrantSpent)
		}
		after := h.Dump(t, s)
		unchanged(t, before, after)
		if last := after.Leaves[len(after.Leaves)-1]; last.Result != "REFUSED" || last.Reason != string(decrypt.CodeDrainGrantSpent) {
			t.Errorf("claim %s: audit record %+v", set.Audit.Object, last)
		}
	}
	claimed(t, s, sale("s1", 1), decrypt.Fresh) // before the terminal was blocked
	used(nil)
	claimed(t, s, drained(sale("s2", 2), one), decrypt.Fresh)
	used(map[string]uint32{"G1": 1})
	if last := h.Dump(t, s).Leaves; last[len(last)-1].Reason != "drain-grant G1" {
		t.Errorf("the audit record does not name the grant: %+v", last[len(last)-1])
	}
	spent(drained(sale("s3", 3), one))

	// What was claimed before comes again without being counted, by itself and inside a resend.
	claimed(t, s, drained(sale("s1", 1), one), decrypt.Resend)
	claimed(t, s, drained(sale("s2", 2), one), decrypt.Resend)
	claimed(t, s, drained(resent("x20", 20, sale("s1", 1)), one), decrypt.Resend)
	used(map[string]uint32{"G1": 1})

	// A fresh message inside a resend is counted, and the resend of it afterwards is not.
	outer := drained(resent("x21", 21, sale("s4", 4)), one, two)
	claimed(t, s, outer, decrypt.Fresh)
	used(map[string]uint32{"G1": 1, "G2": 1})
	claimed(t, s, outer, decrypt.Resend)
	claimed(t, s, drained(sale("s4", 4), two), decrypt.Resend)
	spent(drained(resent("x22", 22, sale("s3", 3)), one))

	// A refusal of another kind counts nothing.
	if _, err := s.Claim(t.Context(), drained(sale("other", 1), two)); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Errorf("another message under a used counter: %v", err)
	}
	used(map[string]uint32{"G1": 1, "G2": 1})

	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	used(map[string]uint32{"G1": 1, "G2": 1})
	claimed(t, s, drained(reversal("r5", 5, 3), two), decrypt.Fresh)
	spent(drained(reversal("r6", 6, 4), one, two))
	used(map[string]uint32{"G1": 1, "G2": 2})
	claimed(t, s, drained(sale("s7", 7), decrypt.Grant{ID: "G2", Count: 3}), decrypt.Fresh) // what counts is what the grant says now
	spent(drained(sale("s8", 8), one))
	claimed(t, s, sale("s8", 8), decrypt.Fresh) // the terminal is active again
	used(map[string]uint32{"G1": 1, "G2": 3})
}

// testDrainsRace sends more messages at once than a grant lets through.
func testDrainsRace(t *testing.T, h Harness) {
	const racers, count = 16, 5
	s := h.open(t, t.TempDir())
	codes := make([]decrypt.Code, racers)
	together(racers, func(i int) {
		n := uint32(i) + 1
		_, err := s.Claim(t.Context(), drained(sale(fmt.Sprint("s", n), n), decrypt.Grant{ID: "G", Count: count}))
		if codes[i] = codeOf(err); err != nil && codes[i] == "" {
			t.Errorf("claim: %v", err)
		}
	})
	seen := make(map[decrypt.Code]int)
	for _, c := range codes {
		seen[c]++
	}
	if seen[""] != count || seen[decrypt.CodeDrainGrantSpent] != racers-count {
		t.Errorf("%v, want %d let through and %d %s", seen, count, racers-count, decrypt.CodeDrainGrantSpent)
	}
	if d := compare(map[string]uint32{"G": count}, h.Dump(t, s).Drained); d != "" {
		t.Errorf("counted (-want +got):\n%s", d)
	}
}
