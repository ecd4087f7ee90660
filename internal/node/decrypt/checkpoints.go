package decrypt

import (
	"context"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/internal/seal"
)

// lastCheckpoint bounds the work at the end.
const lastCheckpoint = 5 * time.Second

// checkpoints signs the state of the audit log as often as configured, and a last time when ctx ends, and leaves the
// latest one in its file, from where it is shipped off the machine.
func (n *node) checkpoints(ctx context.Context) {
	tick := time.NewTicker(time.Duration(n.config.CheckpointEvery))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = n.checkpoint(ctx) // logged and counted; the next one comes
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCheckpoint)
			defer cancel()
			_ = n.checkpoint(end) // logged and counted
			return
		}
	}
}

// checkpoint signs once. A failure is logged and counted: the log itself is not harmed by it.
func (n *node) checkpoint(ctx context.Context) error {
	signed, err := n.db.Checkpoint(ctx, n.signer)
	if err == nil {
		err = seal.WriteFile(n.config.path(n.config.CheckpointFile), signed, 0o644)
	}
	result := "ok"
	if err != nil {
		result = "failed"
		n.log.ErrorContext(ctx, "audit checkpoint failed", slog.String("error", err.Error()))
	}
	n.metrics.checkpoints.WithLabelValues(result).Inc()
	return err
}
