package claims

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
)

// copyFiles copies a database as a power cut would leave it.
func copyFiles(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestAcknowledgedIsDurable opens what is on the disk right after an acknowledgement: the claim is there.
func TestAcknowledgedIsDurable(t *testing.T) {
	t.Parallel()
	for wave, missing := range durable(t) {
		if missing > 0 {
			t.Errorf("wave %d: %d acknowledged claims are not on the disk", wave, missing)
		}
	}
}

// durable claims in waves of callers and counts after each wave which acknowledged claims a copy of the files lacks.
func durable(t *testing.T) (missing []int) {
	const waves, callers = 6, 16
	db, path := openNew(t)
	var all []decrypt.ClaimSet
	for wave := range waves {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				n := uint32(wave*callers + i + 1)
				set := claimSet(fmt.Sprint(n), n)
				if _, err := db.Claim(t.Context(), set); err != nil {
					t.Errorf("claim: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, set)
			})
		}
		wg.Wait()
		missing = append(missing, absent(t, copyFiles(t, path), all))
	}
	return missing
}

func absent(t *testing.T, path string, sets []decrypt.ClaimSet) (n int) {
	t.Helper()
	db := openAt(t, path)
	defer func() { _ = db.Close() }()
	contents := dump(t, db)
	for _, set := range sets {
		if !holds(contents, set) {
			n++
		}
	}
	return n
}

func holds(c storetest.Contents, set decrypt.ClaimSet) bool {
	for _, claim := range set.Claims {
		row := c.Rows[claim.Row()]
		if len(row) != 1 || row[0].Content != claim.Content {
			return false
		}
	}
	_, ok := c.Requests[set.Digest]
	return ok
}

// TestFullDisk lets the database grow no further. Nothing is half done, what was claimed stays, and claims go on when there
// is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	var pages int
	if err := db.view(t.Context(), func(q tx) error {
		_, err := q.One(`PRAGMA page_count`, nil, &pages)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) { mustExec(t, db, fmt.Sprintf("PRAGMA max_page_count = %d", n)) }
	limit(pages + 8)
	n, full := uint32(0), error(nil)
	for full == nil && n < 1000 {
		n++
		_, full = db.Claim(t.Context(), claimSet(fmt.Sprint(n), n))
	}
	if !isCode(full, decrypt.CodeStoreFull) || n < 3 {
		t.Fatalf("claim %d: %v, want %s after a few", n, full, decrypt.CodeStoreFull)
	}
	contents := dump(t, db)
	if len(contents.Requests) != int(n)-1 || len(contents.Leaves) != int(n)-1 || len(contents.Rows) != 2*int(n-1) {
		t.Errorf("%d messages, %d audit records, %d rows of %d claims that fitted", len(contents.Requests), len(contents.Leaves), len(contents.Rows), n-1)
	}
	if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint(n), n)); !isCode(err, decrypt.CodeStoreFull) {
		t.Errorf("claim %d again: %v, want %s", n, err, decrypt.CodeStoreFull)
	}
	limit(1 << 20)
	if out, err := db.Claim(t.Context(), claimSet(fmt.Sprint(n), n)); err != nil || out.Verdict != decrypt.Fresh {
		t.Errorf("claim %d with room again: %v %v, want FRESH", n, out.Verdict, err)
	}
	if out, err := db.Claim(t.Context(), claimSet("1", 1)); err != nil || out.Verdict != decrypt.Resend {
		t.Errorf("the first claim again: %v %v, want RESEND", out.Verdict, err)
	}
}
