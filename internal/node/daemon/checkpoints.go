package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/seal"
)

// lastCheckpoint bounds the work at the end.
const lastCheckpoint = 5 * time.Second

// Checkpoints signs the state of an audit log again and again and leaves the latest checkpoint in a file, from where it
// is shipped off the machine. Every field but Count is required.
type Checkpoints struct {
	Log interface {
		Checkpoint(context.Context, *audit.Signer) ([]byte, error)
	}
	Signer *audit.Signer
	File   string
	Every  time.Duration
	Logger *slog.Logger
	Count  *prometheus.CounterVec // by result, ok or failed; nil: not counted
}

// OpenCheckpoints opens the key that signs the checkpoints of an audit log, which is yet to be named; one that is held elsewhere
// signs under the name. Errors name the member checkpoint-key.
func OpenCheckpoints(key PrivateKey, name, file string, every Duration, log *slog.Logger, count *prometheus.CounterVec) (*Checkpoints, error) {
	signer, err := key.checkpointSigner(name)
	if err != nil {
		return nil, fmt.Errorf("checkpoint-key: %w", err)
	}
	return &Checkpoints{Signer: signer, File: file, Every: time.Duration(every), Logger: log, Count: count}, nil
}

func (k PrivateKey) checkpointSigner(name string) (*audit.Signer, error) {
	if k.Held != nil {
		s, _, err := audit.NewSignerOf(name, k.Held)
		return s, err
	}
	text, err := deploy.OpenCheckpointKey(k.File, k.Passphrase)
	if err != nil {
		return nil, err
	}
	defer text.Wipe()
	return audit.NewSigner(string(text.Expose()))
}

// Run signs as often as configured, and a last time when ctx ends. It returns nil.
func (c *Checkpoints) Run(ctx context.Context) error {
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = c.Sign(ctx) // logged and counted; the next one comes
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCheckpoint)
			defer cancel()
			_ = c.Sign(end) // logged and counted
			return nil
		}
	}
}

// Sign signs once. A failure is logged and counted: the log itself is not harmed by it.
func (c *Checkpoints) Sign(ctx context.Context) error {
	signed, err := c.Log.Checkpoint(ctx, c.Signer)
	if err == nil {
		err = seal.WriteFile(c.File, signed, 0o644)
	}
	result := "ok"
	if err != nil {
		result = "failed"
		c.Logger.ErrorContext(ctx, "audit checkpoint failed", slog.String("error", err.Error()))
	}
	if c.Count != nil {
		c.Count.WithLabelValues(result).Inc()
	}
	return err
}

// LastCheckpoint returns the checkpoint in the file, nil where a daemon never ran. Where there is one there was a database
// with what it vouches for: an empty one in its place, or an old one, would have forgotten what it must never forget.
func LastCheckpoint(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		_, err = audit.ReadUnverified(b)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint-file: %w", err)
	}
	return b, nil
}
