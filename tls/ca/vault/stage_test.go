package vault_test

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// stage is the time of a fleet. It stands while anybody is awake, so that whatever is real takes as long as it takes, and goes on to the
// end of the next span in which somebody is to wake: all of those wake at once. A span is a moment here; that is harder than
// real time, never easier.
type stage struct {
	span time.Duration

	mu     sync.Mutex
	now    time.Time
	awake  int
	asleep sleepers
	quiet  chan struct{} // holds a token when the last one fell asleep
}

type sleeper struct {
	at   time.Time
	wake chan struct{}
}

type sleepers []sleeper

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s sleepers) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sleepers) Push(x any)        { *s = append(*s, x.(sleeper)) }
func (s *sleepers) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

func newStage(now time.Time, span time.Duration) *stage {
	return &stage{now: now, span: span, quiet: make(chan struct{}, 1)}
}

func (s *stage) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// jump moves the time while nobody is asleep.
func (s *stage) jump(to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = to
}

// enter has somebody come, awake, and leave again.
func (s *stage) enter() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awake++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rest()
	}
}

// rest has one less awake. The lock is held.
func (s *stage) rest() {
	if s.awake--; s.awake > 0 {
		return
	}
	select {
	case s.quiet <- struct{}{}:
	default:
	}
}

// sleep is the Sleep of a terminal.
func (s *stage) sleep(ctx context.Context, d time.Duration) error {
	wake := make(chan struct{})
	s.mu.Lock()
	heap.Push(&s.asleep, sleeper{s.now.Add(d), wake})
	s.rest()
	s.mu.Unlock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done(): // the play is over
		s.mu.Lock()
		defer s.mu.Unlock()
		s.awake++
		return ctx.Err()
	}
}

// play goes on until a time, or until done says so, which is asked after each span. Before those of a span wake, each is told.
func (s *stage) play(until time.Time, each func(), done func() bool) {
	for {
		s.mu.Lock()
		for s.awake > 0 {
			s.mu.Unlock()
			<-s.quiet
			s.mu.Lock()
		}
		if done() || len(s.asleep) == 0 || s.asleep[0].at.After(until) {
			s.now = latest(s.now, until, done())
			s.mu.Unlock()
			return
		}
		if end := s.asleep[0].at.Truncate(s.span).Add(s.span); end.After(s.now) {
			s.now = end
		}
		s.mu.Unlock()
		each()
		s.mu.Lock()
		for len(s.asleep) > 0 && !s.asleep[0].at.After(s.now) {
			close(heap.Pop(&s.asleep).(sleeper).wake)
			s.awake++
		}
		s.mu.Unlock()
	}
}

// latest is where the time stands after a play: at its end, unless it ended sooner.
func latest(now, until time.Time, sooner bool) time.Time {
	if sooner || now.After(until) {
		return now
	}
	return until
}
