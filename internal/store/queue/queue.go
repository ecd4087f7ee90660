// Package queue holds the calls that wait for the one goroutine that writes to a database: it takes all that wait as one
// transaction. What becomes of them is the writer's.
package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

const (
	Length   = 1024 // calls that may wait; further ones wait to get in
	MaxBatch = 256  // calls of one transaction
)

// ErrClosed says that the queue takes no further call.
var ErrClosed = errors.New("it is closed")

// Queue holds calls of type J. All methods but Next, Waiting and End are safe for concurrent use;
// these three are the writer's.
type Queue[J any] struct {
	mu     sync.RWMutex // held for reading while a call gets in
	closed bool
	jobs   chan J
	ended  chan struct{}
}

// New returns an empty queue.
func New[J any]() *Queue[J] {
	return &Queue[J]{jobs: make(chan J, Length), ended: make(chan struct{})}
}

// Put hands a call over. It fails with ErrClosed, or with the error of ctx when that ends before there is room.
func (q *Queue[J]) Put(ctx context.Context, j J) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return ErrClosed
	}
	select {
	case q.jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Next waits for a call, and returns it with what else is there by now, MaxBatch at most. It returns nothing when the queue is
// closed and empty.
func (q *Queue[J]) Next() []J {
	first, ok := <-q.jobs
	if !ok {
		return nil
	}
	batch := []J{first}
	for len(batch) < MaxBatch {
		j, ok := q.Waiting()
		if !ok {
			break
		}
		batch = append(batch, j)
	}
	return batch
}

// Waiting returns a call that waits by now, if there is one.
func (q *Queue[J]) Waiting() (j J, ok bool) {
	select {
	case j, ok = <-q.jobs:
		return j, ok
	default:
		return j, false
	}
}

// End says that the writer's goroutine ends. It is called once.
func (q *Queue[J]) End() { close(q.ended) }

// Ended is closed when the writer's goroutine has ended.
func (q *Queue[J]) Ended() <-chan struct{} { return q.ended }

// Closed reports whether the queue takes no further call.
func (q *Queue[J]) Closed() bool {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.closed
}

// Len returns how many calls wait.
func (q *Queue[J]) Len() int { return len(q.jobs) }

// Close lets in no further call and waits for the writer's goroutine, which ends after those that are in. It may be called
// again.
func (q *Queue[J]) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.jobs)
	}
	q.mu.Unlock()
	<-q.ended
}

// panicked is a panic in the writer's goroutine, on the way to the caller's.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }

// Guard calls f in the writer's goroutine. A panic of f belongs to the caller, and the writer must go on: it becomes an error
// that Rethrow knows.
func Guard(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicked{value, debug.Stack()}
		}
	}()
	return f()
}

// Rethrow returns the outcome of a call in the caller's goroutine, and panics there when the call did.
func Rethrow(err error) error {
	if p, ok := err.(*panicked); ok {
		panic(p)
	}
	return err
}
