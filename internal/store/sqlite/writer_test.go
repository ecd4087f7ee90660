package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/queue"
)

// hold keeps the writer busy with one call until the returned function is called.
func hold(t *testing.T, db *DB) (release func()) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = db.Update(context.Background(), func(*Tx) error {
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
	for deadline := time.Now().Add(30 * time.Second); db.writer.queue.Len() < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls in the queue, want %d", db.writer.queue.Len(), n)
		}
	}
}

// takeAll takes the notes from 1 to n at once, and returns when all are taken.
func takeAll(t *testing.T, db *DB, n int) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := db.Update(context.Background(), func(tx *Tx) error { return take(tx, i+1) }); err != nil {
				t.Errorf("note %d: %v", i+1, err)
			}
		})
	}
	return wg.Wait
}

// TestGroupCommit counts: calls that wait while a commit is under way share the next one.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	const callers = queue.MaxBatch + 44
	var batches []int
	o := options()
	o.Batch = func(calls int) { batches = append(batches, calls) }
	db, err := Open(filepath.Join(t.TempDir(), "latchkey.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	release := hold(t, db)
	before := db.Stats()
	wait := takeAll(t, db, callers)
	queued(t, db, callers)
	release()
	wait()
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
	if want := []int{1, queue.MaxBatch, callers - queue.MaxBatch}; !slices.Equal(batches, want) {
		t.Errorf("commits of %v calls, want %v", batches, want)
	}
}

// TestFullQueue fills the queue: who waits to get in can give up, and has then done nothing.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	release := hold(t, db)
	wait := takeAll(t, db, queue.Length)
	queued(t, db, queue.Length)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Update(ctx, func(tx *Tx) error { return take(tx, 9999) }); !errors.Is(err, context.Canceled) {
		t.Errorf("update: %v, want %v", err, context.Canceled)
	}
	release()
	wait()
	if taken, _ := notes(t, db); len(taken) != queue.Length {
		t.Errorf("%d notes, want %d", len(taken), queue.Length)
	}
}

// TestCancelledInQueue gives up in the queue, before its turn.
func TestCancelledInQueue(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	release := hold(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := db.Update(ctx, func(tx *Tx) error { return take(tx, 1) }); !errors.Is(err, context.Canceled) {
			t.Errorf("update: %v, want %v", err, context.Canceled)
		}
	})
	queued(t, db, 1)
	cancel()
	release()
	wg.Wait()
	if taken, _ := notes(t, db); len(taken) != 0 {
		t.Errorf("a call that gave up was carried out: %v", taken)
	}
}

// TestOneBrokenCall mixes calls that fail with good ones: only they fail. One that has changed nothing costs the others
// nothing.
func TestOneBrokenCall(t *testing.T) {
	t.Parallel()
	const good = 10
	for name, c := range map[string]struct {
		do      func(*Tx) error
		want    error
		commits uint64
	}{
		"it breaks a rule of the tables": {func(tx *Tx) error {
			return errors.Join(take(tx, 99), tx.Exec(`INSERT INTO heartbeat (id, beat) VALUES (2, 0)`))
		}, ErrUnavailable, 1 + good},
		"it changes its mind":     {func(tx *Tx) error { return errors.Join(take(tx, 99), errRefused) }, errRefused, 1 + good},
		"it audits no record":     {func(tx *Tx) error { return tx.Audit(audit.Record{}) }, audit.ErrRecord, 2},
		"it refuses at once":      {func(*Tx) error { return errRefused }, errRefused, 2},
		"it meets what is taken":  {func(tx *Tx) error { return errors.Join(take(tx, 99), take(tx, 99)) }, ErrExists, 1 + good},
		"it breaks the last rule": {func(tx *Tx) error { return tx.Exec(`INSERT INTO tags (tag, n) VALUES ('x', 77)`) }, ErrUnavailable, 1 + good},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, path := openNew(t)
			before := db.Stats()
			release := hold(t, db)
			wait := takeAll(t, db, good)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := db.Update(t.Context(), c.do); !errors.Is(err, c.want) {
					t.Errorf("broken call: %v, want %v", err, c.want)
				}
			})
			queued(t, db, good+1)
			release()
			wait()
			wg.Wait()
			if taken, records := notes(t, db); len(taken) != good || records != good {
				t.Errorf("%d notes and %d records, want %d of each", len(taken), records, good)
			}
			if got := db.Stats().Commits - before.Commits; got != c.commits {
				t.Errorf("%d commits, want %d", got, c.commits)
			}
			verifyLog(t, db, path)
		})
	}
}

// TestCommitFails lets the commit itself fail. Nothing of it stays, and the log goes on where it was.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	mustTake(t, db, 1)
	err := db.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(take(tx, 2), tx.Exec(`INSERT INTO tags (tag, n) VALUES ('none', 77)`))
	})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "FOREIGN KEY") {
		t.Fatalf("commit: %v, want a fault with its cause", err)
	}
	if !db.writer.unsure {
		t.Error("the end of the log is not read again")
	}
	if taken, records := notes(t, db); len(taken) != 1 || records != 1 {
		t.Errorf("a commit that failed left %d notes and %d records", len(taken), records)
	}
	mustTake(t, db, 2)
	verifyLog(t, db, path)
}

// TestCloseWaits closes while calls are in the queue: each of them is carried out.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	const callers = 50
	path := filepath.Join(t.TempDir(), "latchkey.db")
	db := openAt(t, path)
	release := hold(t, db)
	wait := takeAll(t, db, callers)
	queued(t, db, callers)
	var closed sync.WaitGroup
	closed.Go(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	release()
	wait()
	closed.Wait()
	if taken, _ := notes(t, reopen(t, path)); len(taken) != callers {
		t.Errorf("%d notes after opening again, want %d", len(taken), callers)
	}
}

// TestFullDisk lets the database grow no further. Nothing is half done, what was written stays, and it goes on when there
// is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	var pages int
	if err := db.View(t.Context(), func(tx *Tx) error {
		_, err := tx.One(`PRAGMA page_count`, nil, &pages)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		if err := db.Update(t.Context(), func(tx *Tx) error { return tx.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", n)) }); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages + 4)
	n, full := 0, error(nil)
	for full == nil && n < 1000 {
		n++
		full = db.Update(t.Context(), func(tx *Tx) error { return take(tx, n) })
	}
	if !errors.Is(full, ErrFull) || n < 3 {
		t.Fatalf("note %d: %v, want %v after a few", n, full, ErrFull)
	}
	if taken, records := notes(t, db); len(taken) != n-1 || records != n-1 {
		t.Errorf("%d notes and %d records of %d that fitted", len(taken), records, n-1)
	}
	limit(1 << 20)
	mustTake(t, db, n)
	verifyLog(t, db, path)
}

// TestDurabilityPragmas asks the connection itself.
func TestDurabilityPragmas(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "application_id": fmt.Sprint(uint32(Registry)),
	} {
		var got string
		if err := db.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s %v, want %s", pragma, got, err, want)
		}
	}
}
