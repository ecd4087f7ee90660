package storetest

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// forked is two stores that do not know of each other, as a database is whose old primary was not cut off.
type forked struct {
	decrypt.Store
	other decrypt.Store
	calls atomic.Uint64
}

func (f *forked) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	if f.calls.Add(1)%8 == 0 {
		return f.other.Claim(ctx, set)
	}
	return f.Store.Claim(ctx, set)
}

// TestLinearFindsForks has the search for an order find none.
func TestLinearFindsForks(t *testing.T) {
	t.Parallel()
	f := &forked{Store: NewModel(), other: NewModel()}
	for round := range linearRounds {
		if !linear(clash(t, f, round)) {
			return
		}
	}
	t.Error("two stores were taken for one")
}
