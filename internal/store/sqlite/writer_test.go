package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
)

// hold keeps the writer busy with one call until the returned function is called.
func hold(t *testing.T, db *DB) (release func()) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = db.writer.submit(context.Background(), func(*tx) error {
			close(entered)
			<-leave
			return nil
		})
	})
	<-entered
	return func() {
		close(leave)
		wg.Wait()
	}
}

// queued waits until n calls are in the queue.
func queued(t *testing.T, db *DB, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); len(db.writer.queue) < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls in the queue, want %d", len(db.writer.queue), n)
		}
	}
}

// TestGroupCommit counts: calls that wait while a commit is under way share the next one.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	const callers = maxBatch + 44
	var batches []int
	db, err := Open(filepath.Join(t.TempDir(), "latchkey.db"), Options{Create: true, Batch: func(calls int) { batches = append(batches, calls) }})
	if err != nil {
		t.Fatal(err)
	}
	release := hold(t, db)
	before := db.Stats()
	var wg sync.WaitGroup
	for i := range uint32(callers) {
		wg.Go(func() {
			if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint(i), i+1)); err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
		})
	}
	queued(t, db, callers)
	release()
	wg.Wait()
	after := db.Stats()
	if commits := after.Commits - before.Commits; commits != 3 { // the one held, a full batch, the rest
		t.Errorf("%d commits for %d calls, want 3", commits, callers)
	}
	if calls := after.Calls - before.Calls; calls != callers {
		t.Errorf("%d calls counted, want %d", calls, callers)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []int{1, maxBatch, callers - maxBatch}; !slices.Equal(batches, want) {
		t.Errorf("commits of %v calls, want %v", batches, want)
	}
}

// TestFullQueue fills the queue: who waits to get in can give up, and has then done nothing.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range uint32(queueLength) {
		wg.Go(func() {
			if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint(i), i+1)); err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
		})
	}
	queued(t, db, queueLength)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := claimSet("late", queueLength+1)
	if _, err := db.Claim(ctx, late); !errors.Is(err, context.Canceled) {
		t.Errorf("claim: %v, want %v", err, context.Canceled)
	}
	release()
	wg.Wait()
	if _, ok, err := db.LookupRequest(t.Context(), late.Digest); ok || err != nil {
		t.Errorf("a call that gave up was carried out: %v", err)
	}
}

// TestCancelledInQueue gives up in the queue, before its turn.
func TestCancelledInQueue(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	release := hold(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	set := claimSet("s1", 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := db.Claim(ctx, set); !errors.Is(err, context.Canceled) {
			t.Errorf("claim: %v, want %v", err, context.Canceled)
		}
	})
	queued(t, db, 1)
	cancel()
	release()
	wg.Wait()
	if _, ok, err := db.LookupRequest(t.Context(), set.Digest); ok || err != nil {
		t.Errorf("a call that gave up was carried out: %v", err)
	}
}

// TestOneBrokenCall mixes a call that breaks its transaction with good ones: only it fails.
func TestOneBrokenCall(t *testing.T) {
	t.Parallel()
	const good = 10
	db, path := openNew(t)
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range uint32(good) {
		wg.Go(func() {
			if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint(i), i+1)); err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
		})
	}
	wg.Go(func() {
		err := db.writer.submit(t.Context(), func(tx *tx) error {
			if err := tx.appendRecord(claimSet("never", 99).Audit); err == nil {
				t.Error("a record without result is accepted")
			}
			return tx.exec(`INSERT INTO heartbeat (id, beat) VALUES (2, 0)`)
		})
		if !isCode(err, decrypt.CodeStoreUnavailable) {
			t.Errorf("broken call: %v, want %s", err, decrypt.CodeStoreUnavailable)
		}
	})
	queued(t, db, good+1)
	release()
	wg.Wait()
	if got := len(dump(t, db).Leaves); got != good {
		t.Errorf("%d audit records, want %d", got, good)
	}
	verifyLog(t, db, path)
}

// TestCommitFails lets the commit itself fail. Nothing of it stays, and the log goes on where it was.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	if _, err := db.Claim(t.Context(), claimSet("s1", 1)); err != nil {
		t.Fatal(err)
	}
	before := dump(t, db)
	r := claimSet("never", 2).Audit
	r.Result = "FRESH"
	err := db.writer.submit(t.Context(), func(tx *tx) error {
		if err := tx.appendRecord(r); err != nil {
			return err
		}
		return errors.Join(tx.exec(`PRAGMA defer_foreign_keys = ON`), tx.exec(`DELETE FROM counters`))
	})
	f, ok := errors.AsType[*Fault](err)
	if !ok || f.Refusal.Code != decrypt.CodeStoreUnavailable || !strings.Contains(f.Error(), "FOREIGN KEY") {
		t.Fatalf("commit: %v, want a fault with its cause", err)
	}
	if !db.writer.unsure {
		t.Error("the end of the log is not read again")
	}
	if after := dump(t, db); len(after.Leaves) != len(before.Leaves) || len(after.States) != 1 {
		t.Errorf("a commit that failed left %d audit records and %d counters", len(after.Leaves), len(after.States))
	}
	if _, err := db.Claim(t.Context(), claimSet("s2", 2)); err != nil {
		t.Errorf("the next claim: %v", err)
	}
	verifyLog(t, db, path)
}

// TestCloseWaits closes while calls are in the queue: each of them is carried out.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	const callers = 50
	path := filepath.Join(t.TempDir(), "latchkey.db")
	db := openAt(t, path)
	release := hold(t, db)
	var wg sync.WaitGroup
	for i := range uint32(callers) {
		wg.Go(func() {
			if _, err := db.Claim(context.Background(), claimSet(fmt.Sprint(i), i+1)); err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
		})
	}
	queued(t, db, callers)
	var closed sync.WaitGroup
	closed.Go(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	release()
	wg.Wait()
	closed.Wait()
	db = openAt(t, path)
	defer func() { _ = db.Close() }()
	if got := len(dump(t, db).Requests); got != callers {
		t.Errorf("%d messages after opening again, want %d", got, callers)
	}
}

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
	db, path := openNew(t)
	var pages int
	if err := db.writer.submit(t.Context(), func(tx *tx) error {
		_, err := tx.one(`PRAGMA page_count`, nil, &pages)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		if err := db.writer.submit(t.Context(), func(tx *tx) error {
			_, err := tx.conn.ExecContext(tx.ctx, fmt.Sprintf("PRAGMA max_page_count = %d", n))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
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
	verifyLog(t, db, path)
}

// TestDurabilityPragmas asks the connection itself.
func TestDurabilityPragmas(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "application_id": fmt.Sprint(applicationID)} {
		var got string
		if err := db.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s %v, want %s", pragma, got, err, want)
		}
	}
}
