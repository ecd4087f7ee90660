package provision

import (
	"context"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	sweepEvery = 10 * time.Second
	// feedKept is how many records of the feed stay for followers that were away. Who was away longer takes a snapshot.
	feedKept = 4096
)

// Run does what is due: it tells other services what they have to know, retires keys that have drained, voids codes that
// have expired and prunes the feed. It returns nil when ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	if e.config.Shared {
		var follower sync.WaitGroup
		follower.Go(func() { e.follow(ctx) })
		defer follower.Wait()
	}
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	last := e.now()
	if err := e.sweep(ctx, last); err != nil && ctx.Err() == nil {
		e.log(ctx, "sweep failed", err)
	}
	for {
		if err := e.resolve(ctx); err != nil && ctx.Err() == nil {
			e.log(ctx, "a change may have been kept or not", err)
		}
		if err := e.outbox(ctx); err != nil && ctx.Err() == nil {
			e.log(ctx, "outbox failed", err)
		}
		again := time.NewTimer(firstRetry)
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-e.kick:
		case <-again.C:
		case <-sweep.C:
			now := e.now()
			if err := e.sweep(ctx, last); err != nil && ctx.Err() == nil {
				e.log(ctx, "sweep failed", err)
			}
			last = now
		}
		again.Stop()
	}
}

// sweep does what time makes due. last is when it ran before.
func (e *Engine) sweep(ctx context.Context, last time.Time) error {
	e.long.tidy(e.now())
	drained, ended := e.memory.due(last, e.now())
	if ended && e.config.OnChange != nil {
		e.config.OnChange()
	}
	for _, id := range drained {
		if err := e.update(ctx, func(t *transaction) error { return t.drained(id) }); err != nil {
			return err
		}
	}
	long := e.feedLong()
	overdue, err := e.codesOverdue(ctx)
	if err != nil || !long && !overdue {
		return err
	}
	err = e.update(ctx, func(t *transaction) error { return t.tidy(long) })
	if err == nil && long {
		end, _ := e.memory.newest()
		e.pruned = end.position
	}
	return err
}

// feedLong reports whether the feed has grown enough to be pruned.
func (e *Engine) feedLong() bool {
	end, _ := e.memory.newest()
	pruned := uint64(0)
	if e.pruned.epoch == end.epoch {
		pruned = e.pruned.sequence
	}
	return end.sequence-pruned > 2*feedKept
}

// codesOverdue reports whether there are codes to void, without writing.
func (e *Engine) codesOverdue(ctx context.Context) (overdue bool, err error) {
	err = e.view(ctx, func(tx Tx) error {
		codes, err := tx.OverdueCodes(e.now().Unix(), 1)
		overdue = len(codes) > 0
		return err
	})
	return overdue, err
}

// drained retires the keys of a terminal that have drained.
func (t *transaction) drained(id keyset.TerminalID) error {
	row, err := t.row(id)
	if err != nil {
		return err
	}
	for i := range row.Slots {
		slot := &row.Slots[i]
		for j := range slot.Keys {
			k := &slot.Keys[j]
			if k.State != keyset.SlotDraining || t.now.Before(k.DrainUntil) {
				continue
			}
			if err := t.retire(row, slot, k, "drained"); err != nil {
				return err
			}
		}
	}
	return t.save(row)
}

// tidy voids codes that have expired, and drops approvals that are kept no longer, and the beginning of a long feed.
func (t *transaction) tidy(long bool) error {
	if err := t.void(t.now.Unix(), "expired"); err != nil {
		return err
	}
	if long {
		if err := t.prune(); err != nil {
			return err
		}
	}
	_, err := t.PruneApprovals(t.now.Add(-approvalKept).Unix())
	return err
}

// prune drops the beginning of the feed.
func (t *transaction) prune() error {
	if err := t.readEnd(); err != nil {
		return err
	}
	if t.end.sequence <= feedKept { // of an epoch that has begun since
		return nil
	}
	_, err := t.PruneFeed(t.end.epoch, t.end.sequence-feedKept)
	return err
}
