package decrypt_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// countingEngine counts how often keys are begun.
type countingEngine struct {
	engine.Engine
	mu             sync.Mutex
	single, groups int
	broken         bool // it begins no groups
}

func (e *countingEngine) Begin(ctx context.Context, base keyset.KeyRef, ksn dukpt.KSN) (engine.HostOps, error) {
	e.mu.Lock()
	e.single++
	e.mu.Unlock()
	return e.Engine.Begin(ctx, base, ksn)
}

func (e *countingEngine) BeginBatch(ctx context.Context, base keyset.KeyRef, ksns []dukpt.KSN) ([]engine.HostOps, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups++
	if e.broken {
		return nil, engine.ErrUnavailable
	}
	return e.Engine.BeginBatch(ctx, base, ksns)
}

// panickyEngine panics when keys are begun.
type panickyEngine struct {
	engine.Engine
	groups bool // those of many; else those of one
}

func (e panickyEngine) Begin(context.Context, keyset.KeyRef, dukpt.KSN) (engine.HostOps, error) {
	panic("a fault of the engine")
}

func (e panickyEngine) BeginBatch(context.Context, keyset.KeyRef, []dukpt.KSN) ([]engine.HostOps, error) {
	if e.groups {
		panic("a fault of the engine")
	}
	return nil, engine.ErrUnavailable
}

// TestBatchPanics: a panic of one message is that of the call, which a server recovers from, and not of the process.
func TestBatchPanics(t *testing.T) {
	t.Parallel()
	for _, groups := range []bool{false, true} {
		l := newLaboratory(t, dukpt.AES)
		service := must[*decrypt.Service](t)(decrypt.New(decrypt.Config{
			Engine: panickyEngine{l.engine.Engine, groups}, Store: l.store, Catalog: l.books, Secrets: l.ring, Clock: l.clock.Now, Instance: "B",
			Logger: slog.New(slog.DiscardHandler),
		}))
		func() {
			defer func() {
				if v := recover(); v != "a fault of the engine" {
					t.Errorf("recovered %v", v)
				}
			}()
			_, _ = service.Batch(t.Context(), l.caller, []decrypt.TransactionRequest{
				{Message: l.sign(l.sale(1, 1), 1)}, {Message: l.sign(l.sale(2, 1), 2)},
			})
		}()
	}
}

// TestBatch: each message of a batch is answered as by itself, whatever becomes of the others, and keys are begun by base key.
func TestBatch(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]bool{"together": false, "one by one, when they cannot be begun together": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, dukpt.AES)
			counting := &countingEngine{Engine: l.engine.Engine, broken: broken}
			service := must[*decrypt.Service](t)(decrypt.New(decrypt.Config{
				Engine: counting, Store: l.store, Catalog: l.books, Secrets: l.ring, Clock: l.clock.Now, Instance: "B", Logger: slog.New(slog.DiscardHandler),
			}))
			var reqs []decrypt.TransactionRequest
			for i := range uint32(40) {
				raw := l.sign(l.sale(i+1, int64(i+1)), i+1)
				if i == 7 {
					raw[len(raw)-1] ^= 1 // its MAC
				}
				reqs = append(reqs, decrypt.TransactionRequest{Message: raw, OutgoingPINKey: l.zone()})
			}
			reqs[9].Message = []byte("no message")
			got := must[[]decrypt.BatchResult](t)(service.Batch(t.Context(), l.caller, reqs))
			for i, r := range got {
				want := decrypt.Code("no error")
				switch i {
				case 7:
					want = decrypt.CodeMACInvalid
				case 9:
					want = decrypt.CodeMessageMalformed
				}
				if codeOf(r.Err) != want || (r.Result == nil) != (r.Err != nil) {
					t.Fatalf("message %d: %v, want %s", i, r.Err, want)
				}
				if r.Result != nil && (r.Result.Status != decrypt.CounterFresh || r.Result.Payload.Sequence != uint64(i+1) || len(r.Result.Fields) != 2) {
					t.Errorf("message %d: %v of sequence %d", i, r.Result.Status, r.Result.Payload.Sequence)
				}
			}
			if counting.groups != 2 || (counting.single == 0) == broken {
				t.Errorf("%d groups and %d keys one by one", counting.groups, counting.single)
			}
			for i, r := range must[[]decrypt.BatchResult](t)(service.Batch(t.Context(), l.caller, reqs[:5])) {
				if r.Err != nil || r.Result.Status != decrypt.CounterResend {
					t.Errorf("message %d again: %+v", i, r)
				}
			}
			if _, err := service.Batch(t.Context(), l.caller, nil); codeOf(err) != decrypt.CodeRequestMalformed {
				t.Errorf("no message: %v", err)
			}
			if _, err := service.Batch(t.Context(), l.caller, make([]decrypt.TransactionRequest, decrypt.MaxBatch+1)); codeOf(err) != decrypt.CodeRequestMalformed {
				t.Errorf("too many: %v", err)
			}
		})
	}
}

// TestBatchReleasesOnce: of two contents under one KSN in a batch, one is released.
func TestBatchReleasesOnce(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.AES)
	var reqs []decrypt.TransactionRequest
	for i := range 20 {
		reqs = append(reqs, decrypt.TransactionRequest{Message: l.sign(l.sale(1, int64(100+i)), 1), OutgoingPINKey: l.zone()})
	}
	released := 0
	for _, r := range must[[]decrypt.BatchResult](t)(l.service.Batch(t.Context(), l.caller, reqs)) {
		switch {
		case r.Err == nil:
			released++
		case codeOf(r.Err) != decrypt.CodeKSNReplayed || strings.Contains(r.Err.Error(), testPAN):
			t.Errorf("%v", r.Err)
		}
	}
	if released != 1 {
		t.Errorf("%d contents of one KSN are released", released)
	}
}
