package provision

import (
	"context"
	"sync"
	"time"
)

// snapshotKept is how long a snapshot is handed out again while nothing changes: followers want its head to be recent.
const snapshotKept = 10 * time.Second

// longPages lets one long page of the feed be built at a time, however many ask for one, and keeps the last snapshot. It is
// safe for concurrent use.
type longPages struct {
	turn chan struct{} // filled by whoever builds

	mu   sync.Mutex
	last snapshot
}

// snapshot is a page with the newest record of every terminal, as of a position.
type snapshot struct {
	at   position
	made time.Time
	page []byte // nil for none
}

func newLongPages() *longPages { return &longPages{turn: make(chan struct{}, 1)} }

// snapshot returns the page of a position if it is known, nil otherwise.
func (l *longPages) snapshot(at position, now time.Time) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.at != at || !l.last.fresh(now) {
		return nil
	}
	return l.last.page
}

func (s *snapshot) fresh(now time.Time) bool { return now.Sub(s.made).Abs() < snapshotKept }

func (l *longPages) keep(s snapshot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = s
}

// tidy drops a snapshot that is not handed out any more.
func (l *longPages) tidy(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.fresh(now) {
		l.last = snapshot{}
	}
}

// longPage returns what follows a position by many records, or a snapshot when that cannot be said or would be more. Of
// those that ask at once one builds it, and the others get what it has built.
func (e *Engine) longPage(ctx context.Context, asker position, end head) ([]byte, error) {
	snapshot := !end.follows(asker, mostFollowing)
	if snapshot {
		if page := e.long.snapshot(end.position, e.now()); page != nil {
			return page, nil
		}
	}
	select {
	case e.long.turn <- struct{}{}:
		defer func() { <-e.long.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !snapshot {
		page, err := e.following(ctx, asker)
		if err != nil || page != nil {
			return page, err
		}
	}
	return e.snapshot(ctx)
}

// snapshot returns the snapshot of the feed as it is now. Whoever calls it has the turn.
func (e *Engine) snapshot(ctx context.Context) ([]byte, error) {
	var end head
	var known []byte
	var records [][]byte
	err := e.view(ctx, func(tx Tx) error {
		records = nil
		var err error
		if _, end, err = readHead(tx); err != nil {
			return err
		}
		if known = e.long.snapshot(end.position, e.now()); known != nil {
			return nil
		}
		return tx.FeedLatest(end.epoch, func(r FeedRecord) error {
			records = append(records, r.Envelope)
			return nil
		})
	})
	if err != nil || known != nil {
		return known, err
	}
	made := e.now()
	page, err := e.page(end, records, true)
	if err == nil {
		e.long.keep(snapshot{end.position, made, page})
	}
	return page, err
}
