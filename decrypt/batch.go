package decrypt

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// MaxBatch is how many messages one batch may hold.
const MaxBatch = 1000

// batchWorkers is how many messages of one batch are worked on at once: enough that a store has many claims for each of its
// commits.
const batchWorkers = 64

// BatchResult is what became of one message of a batch: a result, or why there is none.
type BatchResult struct {
	Result *TransactionResult // nil with Err
	Err    error              // a *Refusal
}

// Batch is Transaction for up to MaxBatch messages. Each is a message of its own, as if all had come at once by separate calls: in
// no order, and what becomes of one says nothing about the others. Their keys are derived together. The results are in the order
// of the requests; the caller wipes them. An error says that there was no batch, and is a *Refusal.
func (s *Service) Batch(ctx context.Context, caller Caller, reqs []TransactionRequest) ([]BatchResult, error) {
	if len(reqs) < 1 || len(reqs) > MaxBatch {
		return nil, s.Refuse(ctx, caller, "transaction", refuse(CodeRequestMalformed, "%d messages, want 1 to %d", len(reqs), MaxBatch))
	}
	out := make([]BatchResult, len(reqs))
	all := make([]*transaction, len(reqs))
	unready := make([]error, len(reqs))
	for i := range reqs {
		all[i] = &transaction{Service: s, caller: caller, req: reqs[i], now: s.clock()}
		defer all[i].end()
		if unready[i] = all[i].prepare(ctx); unready[i] != nil {
			all[i].order = nil // nothing is derived for it
		}
	}
	var crew crew
	s.derive(ctx, all, &crew)
	var at atomic.Int64
	for range min(batchWorkers, len(reqs)) {
		crew.do(func() {
			for i := at.Add(1) - 1; i < int64(len(all)); i = at.Add(1) - 1 {
				if unready[i] != nil {
					out[i].Err = all[i].failed(ctx, unready[i])
					continue
				}
				out[i].Result, out[i].Err = all[i].finish(ctx)
				all[i].end() // keys of a batch may be objects of a token, which has room for so many
			}
		})
	}
	crew.wait()
	return out, nil
}

// crew are goroutines of one call. A panic in one of them is that of the call, which its own goroutine can recover from.
type crew struct {
	sync.WaitGroup
	once  sync.Once
	panic any
}

func (c *crew) do(f func()) {
	c.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				c.once.Do(func() { c.panic = v })
			}
		}()
		f()
	})
}

// wait waits for all that were begun, and panics when one has.
func (c *crew) wait() {
	c.Wait()
	if c.panic != nil {
		panic(c.panic)
	}
}

// derive begins the keys of many messages, those under one base key together. Where that fails, each message tries by itself and
// says why.
func (s *Service) derive(ctx context.Context, all []*transaction, crew *crew) {
	waiting := make(map[keyset.KeyRef][]*located)
	for _, t := range all {
		for _, k := range t.order {
			waiting[k.set.BaseKey] = append(waiting[k.set.BaseKey], k)
		}
	}
	seats := make(chan struct{}, runtime.GOMAXPROCS(0))
	for base, group := range waiting {
		crew.do(func() {
			seats <- struct{}{}
			defer func() { <-seats }()
			ksns := make([]dukpt.KSN, len(group))
			for i, k := range group {
				ksns[i] = k.ksn
			}
			ops, err := s.engine.BeginBatch(ctx, base, ksns)
			if err != nil {
				return
			}
			for i, k := range group {
				k.ops = ops[i]
			}
		})
	}
	crew.wait()
}
