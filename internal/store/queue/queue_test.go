package queue_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/store/queue"
)

// TestBatches takes what waits, so many at once, and ends when the queue is closed and empty.
func TestBatches(t *testing.T) {
	t.Parallel()
	q := queue.New[int]()
	const n = queue.MaxBatch + 44
	for i := range n {
		if err := q.Put(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if q.Len() != n || q.Closed() {
		t.Errorf("%d calls wait, want %d", q.Len(), n)
	}
	var closed sync.WaitGroup
	closed.Go(q.Close)
	var sizes []int
	next := 0
	for batch := q.Next(); batch != nil; batch = q.Next() {
		sizes = append(sizes, len(batch))
		for _, j := range batch {
			if j != next {
				t.Fatalf("call %d comes as number %d", j, next)
			}
			next++
		}
	}
	if next != n || !slices.Equal(sizes, []int{queue.MaxBatch, n - queue.MaxBatch}) {
		t.Errorf("%d calls in batches of %v", next, sizes)
	}
	q.End()
	closed.Wait()
	<-q.Ended()
	q.Close()
	if err := q.Put(t.Context(), 1); !errors.Is(err, queue.ErrClosed) || !q.Closed() {
		t.Errorf("put into a closed queue: %v", err)
	}
	if _, ok := q.Waiting(); ok {
		t.Error("a call waits in an empty queue")
	}
}

// TestFull gives up in front of a full queue.
func TestFull(t *testing.T) {
	t.Parallel()
	q := queue.New[int]()
	for i := range queue.Length {
		if err := q.Put(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Put(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

// TestGuard takes a panic from one goroutine to another, and nothing else.
func TestGuard(t *testing.T) {
	t.Parallel()
	want := errors.New("an outcome")
	if err := queue.Rethrow(queue.Guard(func() error { return want })); err != want {
		t.Errorf("%v, want %v", err, want)
	}
	err := queue.Guard(func() error { panic("so be it") })
	defer func() {
		if p, ok := recover().(error); !ok || p != err {
			t.Errorf("panicked with %v", p)
		}
	}()
	_ = queue.Rethrow(err)
	t.Error("the panic is gone")
}
