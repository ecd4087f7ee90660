package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// TestFenceWaits has somebody read the counters for longer than any other call would wait: the fence is put all the same.
func TestFenceWaits(t *testing.T) {
	t.Parallel()
	o := inFolder(t, t.TempDir())
	o.Patience = time.Second
	s := open(t, o)
	if _, err := s.Claim(t.Context(), claimSet("s1", 1, 1)); err != nil {
		t.Fatal(err)
	}
	reader, err := raw(t, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close(context.Background()) }()
	if _, err := reader.Exec(t.Context(), `SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE counters IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Fence(t.Context(), 10, audit.Record{Time: time.Now(), Instance: o.Instance, Action: "store/fence", Result: "DONE"})
		done <- err
	}()
	time.Sleep(2*o.Patience + 3*time.Second) // longer than a statement, a lock or an exchange may take
	if _, err := reader.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a fence that had to wait: %v", err)
	}
}
