package decrypt

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
)

const (
	floorsEvery   = 2 * time.Second
	floorsAtOnce  = 500 // counters in one transaction
	floorsTimeout = 30 * time.Second
)

// floors keeps the floors of keys that were imported in the store of claims, so that the store refuses by itself what another host may
// have answered. Nothing depends on how soon that is: every claim brings the floor of its key along, as the registry says it.
type floors struct {
	registry *registry
	catalog  decrypt.Catalog
	store    decrypt.Store
	instance string
	tenant   string
	log      *slog.Logger
	metrics  *metrics
	kept     map[decrypt.CounterKey]uint32 // that the store has
	failed   bool                          // the last time
}

// run raises floors until ctx ends. It returns nil.
func (f *floors) run(ctx context.Context) error {
	tick := time.NewTicker(floorsEvery)
	defer tick.Stop()
	for {
		if err := f.raise(ctx); err != nil && ctx.Err() == nil {
			if !f.failed {
				f.log.WarnContext(ctx, "floors of imported keys could not be kept; they hold all the same, and will be", slog.String("error", err.Error()))
			}
			f.failed = true
		} else {
			f.failed = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// raise raises what the store does not have yet. A key set that is not known here yet is for the next time.
func (f *floors) raise(ctx context.Context) error {
	var all []decrypt.Floor
	seen := make(map[decrypt.CounterKey]bool)
	for _, t := range f.registry.follower.Terminals() {
		for _, s := range t.Slots {
			if s.Floor == 0 {
				continue
			}
			set, ok := f.catalog.KeySet(s.KeySet)
			if !ok {
				continue
			}
			key := decrypt.CounterKey{BaseKey: set.BaseKeyFingerprint, KeyID: s.KeyID}
			if f.kept[key] < s.Floor && !seen[key] {
				seen[key] = true
				all = append(all, decrypt.Floor{Counter: key, Ordinal: s.Floor})
			}
		}
	}
	for part := range slices.Chunk(all, floorsAtOnce) {
		if err := f.keep(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (f *floors) keep(ctx context.Context, part []decrypt.Floor) error {
	ctx, cancel := context.WithTimeout(ctx, floorsTimeout)
	defer cancel()
	_, err := f.store.Raise(ctx, part, audit.Record{
		Time: time.Now(), Instance: f.instance, Tenant: f.tenant, Actor: f.instance, Role: "decrypt", Action: "store/raise",
		Object: fmt.Sprintf("%d counters", len(part)), Result: "DONE", Reason: "imported keys in the registry feed",
	})
	if err != nil {
		return err
	}
	f.metrics.floors.Add(float64(len(part)))
	for _, one := range part {
		f.kept[one.Counter] = one.Ordinal
	}
	return nil
}
