package provision

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	// followEvery is how often an engine looks for what others have written to its store.
	followEvery = 200 * time.Millisecond
	// followLimit is how old the last look may be. Beyond it nobody here knows whom the others have revoked meanwhile: nobody is
	// admitted, and no follower of the feed is told that all is as it was.
	followLimit = 5 * time.Second
)

// errBlind says that this instance does not know what others have decided.
var errBlind = errors.New("provision: the store has not been read for too long to know what other instances have decided")

// errFork says that the store does not have what was known to be in it, as after a fail-over to a server that lags.
var errFork = errors.New("provision: the store has lost records of the feed that were known here: restart this instance when it has been looked into")

// sight is when an engine has last seen what others have written, and whether that can be believed.
type sight struct {
	at   atomic.Pointer[time.Time]
	fork atomic.Bool // the store has another past than this engine knows; for good
}

func (s *sight) now() {
	now := time.Now() // by the monotonic clock, which nobody sets
	s.at.Store(&now)
}

// blind reports whether others may have written what is not known here.
func (e *Engine) blind() bool {
	if !e.config.Shared {
		return false
	}
	at := e.seen.at.Load()
	return e.seen.fork.Load() || at == nil || time.Since(*at) > followLimit
}

// follow looks for what other engines have written, until ctx ends.
func (e *Engine) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, followLimit)
		err := e.catchUp(limited)
		cancel()
		if err != nil && ctx.Err() == nil && !failing && !errors.Is(err, errFork) { // which has been told
			e.log(ctx, "what other instances write is not seen", err)
		}
		failing = err != nil
	}
}

// catchUp learns what other engines have written since it looked last. What this engine has written since then is no sign that
// there is nothing else. When the store has lost what was known, this engine is blind for good: whom it has admitted or turned
// away may rest on what is no more.
func (e *Engine) catchUp(ctx context.Context) error {
	begun := time.Now()
	known, _ := e.memory.newest() // before the store is read, which is then at least as far
	followed := e.memory.follows()
	var end head
	var forked bool
	standings := make(map[keyset.TerminalID]standing)
	err := e.view(ctx, func(tx Tx) error {
		clear(standings)
		var err error
		if _, end, err = readHead(tx); err != nil {
			return err
		}
		if forked, err = forks(tx, known, end); err != nil || forked || end.position == followed {
			return err
		}
		return changes(tx, followed, end, standings)
	})
	if err != nil {
		return err
	}
	if forked {
		if !e.seen.fork.Swap(true) {
			e.config.Logger.LogAttrs(ctx, slog.LevelError, "the store has lost records of the feed: nobody is admitted until a restart",
				slog.Uint64("epoch", end.epoch), slog.Uint64("sequence", end.sequence),
				slog.Uint64("known epoch", known.epoch), slog.Uint64("known sequence", known.sequence))
		}
		return errFork
	}
	lost := e.memory.put(end, standings)
	e.memory.follow(end.position)
	if lost && e.config.OnChange != nil {
		e.config.OnChange()
	}
	e.seen.at.Store(&begun)
	return nil
}

// forks reports whether the feed does not have the record that was known to be its newest. In a later epoch every record is
// new, and all are read.
func forks(tx Tx, known, end head) (bool, error) {
	switch {
	case end.before(known.position):
		return true, nil
	case end.position == known.position:
		return end.hash != known.hash, nil
	case end.epoch != known.epoch || known.sequence == 0:
		return false, nil
	}
	records, err := tx.FeedAfter(known.epoch, known.sequence-1, 1)
	if err != nil || len(records) == 0 || records[0].Sequence != known.sequence { // it may have been pruned
		return false, err
	}
	return sha256.Sum256(records[0].Envelope) != known.hash, nil
}

// changes fills in the standings of terminals that the feed tells of after a position, of all when it does not go back so far.
func changes(tx Tx, after position, end head, standings map[keyset.TerminalID]standing) error {
	note := func(row *Terminal) error {
		standings[row.ID] = standingOf(row, end.position)
		return nil
	}
	objects, whole, err := changedSince(tx, after, end)
	if err != nil {
		return err
	}
	if !whole {
		return tx.Terminals("", 0, note)
	}
	for id := range objects {
		row, ok, err := tx.Terminal(id)
		if err != nil {
			return err
		}
		if ok {
			_ = note(row) // never fails
		}
	}
	return nil
}

// changedSince returns the terminals that the feed has records of after a position, and false when it does not tell of all.
func changedSince(tx Tx, known position, end head) (map[keyset.TerminalID]bool, bool, error) {
	if !end.follows(known, feedKept) {
		return nil, false, nil
	}
	records, err := tx.FeedAfter(end.epoch, known.sequence, feedKept)
	if err != nil || uint64(len(records)) != end.sequence-known.sequence {
		return nil, false, err
	}
	out := make(map[keyset.TerminalID]bool)
	for _, r := range records {
		out[keyset.TerminalID(r.Object)] = true
	}
	return out, true, nil
}
