package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit/audittest"
)

// TestCheckpointNobodyWaits has a key not answer: the checkpoint ends with its context, and neither those who write nor the end
// of the store wait for the key.
func TestCheckpointNobodyWaits(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	key := audittest.NewSilentKey(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := db.Checkpoint(ctx, key.Signer)
		ended <- err
	}()
	<-key.Waited
	if _, err := db.Claim(t.Context(), claimSet("s1", 1, 1)); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("checkpoint: %v, want %v", err, context.Canceled)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
