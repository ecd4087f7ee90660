package decrypt

import (
	"context"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/tls/feed"
)

const (
	reportEvery   = 2 * time.Second // how long a use of a key waits to be told
	reportTimeout = 5 * time.Second // for one post
	reportKeys    = 1024            // keys in one post
	lastReport    = 2 * time.Second // for what is left at the end
)

// reasonReplayed is why terminals are quarantined: one KSN came with two contents.
const reasonReplayed = string(decrypt.CodeKSNReplayed)

// reporter tells the registration authority which keys are in use and how far: each use soon, and everything that the store
// knows at the start and when the authority begins a new epoch, in which it may have lost what it knew. Evidence against a
// terminal is told at once, and once: whoever releases the terminal has looked at it. What cannot be told now is told later.
type reporter struct {
	registry *registry
	catalog  decrypt.Catalog
	store    decrypt.Store
	log      *slog.Logger
	metrics  *metrics
	epoch    uint64                      // that everything was noted for
	failed   bool                        // the last time
	orphans  map[decrypt.CounterKey]bool // counters with evidence and of no terminal in this epoch
}

// run reports until ctx ends, and then a last time. It returns nil.
func (r *reporter) run(ctx context.Context) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastReport)
			defer cancel()
			r.report(last)
			return nil
		case <-r.registry.alarm:
		case <-tick.C:
		}
		r.report(ctx)
	}
}

// report tells what is to be told, and logs when the outcome is another one than before.
func (r *reporter) report(ctx context.Context) {
	told, err := r.tell(ctx)
	switch {
	case err != nil:
		r.metrics.observations.WithLabelValues("failed").Inc()
		if !r.failed {
			r.log.WarnContext(ctx, "the registration authority could not be told; it will be", slog.String("error", err.Error()))
		}
	case r.failed:
		r.log.InfoContext(ctx, "the registration authority is told again")
	}
	if told > 0 {
		r.metrics.observations.WithLabelValues("ok").Inc()
	}
	r.failed = err != nil
}

// tell posts what waits by now, and returns how often it did.
func (r *reporter) tell(ctx context.Context) (posts int, err error) {
	if err := r.recall(ctx); err != nil {
		return 0, err
	}
	if posts, err = r.accuse(ctx); err != nil {
		return posts, err
	}
	for left := r.registry.marks.waiting(); left > 0; left -= reportKeys {
		if err := r.post(ctx); err != nil {
			return posts, err
		}
		posts++
	}
	return posts, nil
}

func (r *reporter) post(ctx context.Context) error {
	o, taken := r.registry.marks.take(reportKeys)
	if err := r.observe(ctx, o); err != nil {
		return err
	}
	r.registry.marks.done(taken)
	return nil
}

func (r *reporter) observe(ctx context.Context, o feed.Observations) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, _, err := r.registry.client.Observe(ctx, o)
	return err
}

// accuse has terminals quarantined that there is more evidence against than the authority knows of, and returns how often it
// posted. It looks at the store each time: a refusal whose caller did not wait for it is told of, too.
func (r *reporter) accuse(ctx context.Context) (posts int, err error) {
	told, err := r.unreported(ctx)
	if err != nil || len(told) == 0 || r.registry.Current() != nil {
		return 0, err
	}
	holders := r.holders()
	var o feed.Observations
	now := time.Now().UTC().Truncate(time.Second)
	for counter := range told {
		holder, ok := holders[counter]
		if !ok { // the key has left the registry, and will not come back
			r.orphans[counter] = true
			delete(told, counter)
			continue
		}
		o.Quarantined = append(o.Quarantined, feed.Quarantine{
			Terminal: holder.terminal, KeySet: holder.set, KeyID: holder.id, Reason: reasonReplayed, Time: now,
		})
	}
	if len(told) == 0 {
		return 0, nil
	}
	if err := r.observe(ctx, o); err != nil {
		return 0, err
	}
	for counter, evidence := range told {
		if err := r.store.EvidenceReported(ctx, counter, evidence); err != nil {
			return 1, err
		}
	}
	return 1, nil
}

// unreported returns how much evidence there is about the counters that the authority does not know all evidence about.
func (r *reporter) unreported(ctx context.Context) (map[decrypt.CounterKey]uint64, error) {
	out := make(map[decrypt.CounterKey]uint64)
	err := r.store.EachUnreported(ctx, func(key decrypt.CounterKey, state decrypt.KeyIDState) error {
		if !r.orphans[key] {
			out[key] = state.Evidence
		}
		return nil
	})
	return out, err
}

// recall notes every counter of the store, once in each epoch.
func (r *reporter) recall(ctx context.Context) error {
	epoch, _ := r.registry.follower.Position()
	if epoch == r.epoch || r.registry.Current() != nil {
		return nil
	}
	holders := r.holders()
	r.registry.marks.forget()
	now := time.Now()
	err := r.store.EachCounter(ctx, func(key decrypt.CounterKey, state decrypt.KeyIDState) error {
		if holder, ok := holders[key]; ok && state.Seen > 0 {
			r.registry.marks.add(holder, state.High, now)
		}
		return nil
	})
	if err == nil {
		r.epoch = epoch
		clear(r.orphans)
	}
	return err
}

// holders says whose key each counter belongs to.
func (r *reporter) holders() map[decrypt.CounterKey]markKey {
	holders := make(map[decrypt.CounterKey]markKey)
	for _, t := range r.registry.follower.Terminals() {
		for _, s := range t.Slots {
			if set, ok := r.catalog.KeySet(s.KeySet); ok {
				holders[decrypt.CounterKey{BaseKey: set.BaseKeyFingerprint, KeyID: s.KeyID}] = markKey{t.ID, s.KeySet, s.KeyID}
			}
		}
	}
	return holders
}
