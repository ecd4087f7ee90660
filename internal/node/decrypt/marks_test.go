package decrypt

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
)

func keyOf(t testing.TB, n int) markKey {
	return markKey{keyset.TerminalID(fmt.Sprintf("T-%d", n)), "CARDS", must[dukpt.KeyID](t)(dukpt.ParseKeyID(fmt.Sprintf("12345678%08d", n)))}
}

// said is what observations say, in words.
func said(o feed.Observations) string {
	var out string
	for _, s := range o.FirstSeen {
		out += fmt.Sprintf("first %s %d;", s.Terminal, s.Time.Unix())
	}
	for _, h := range o.High {
		out += fmt.Sprintf("high %s %d;", h.Terminal, h.Ordinal)
	}
	return out
}

func TestMarks(t *testing.T) {
	t.Parallel()
	m, key := newMarks(), keyOf(t, 1)
	at := func(s int64) time.Time { return time.Unix(s, 999_000_000) }
	told := func(want string) map[markKey]mark {
		t.Helper()
		o, taken := m.take(10)
		if got := said(o); got != want {
			t.Errorf("to be told: %q, want %q", got, want)
		}
		return taken
	}
	told("")
	m.add(key, 0, at(1)) // under a MAC that is no evidence
	told("first T-1 1;")
	m.add(key, 7, at(2))
	m.add(key, 5, at(3))
	taken := told("first T-1 1;high T-1 7;")
	m.add(key, 9, at(4)) // while that is on its way
	if m.done(taken); m.waiting() != 1 {
		t.Errorf("%d keys wait, want 1", m.waiting())
	}
	m.done(told("high T-1 9;"))
	m.add(key, 9, at(5))
	m.add(key, 0, at(5))
	told("")
	m.forget()
	m.add(key, 9, at(6))
	m.done(told("first T-1 6;high T-1 9;"))
	if m.waiting() != 0 {
		t.Errorf("%d keys wait, want none", m.waiting())
	}
}

// TestMarksFromManySides has uses noted while they are told: nothing may be lost.
func TestMarksFromManySides(t *testing.T) {
	t.Parallel()
	const keys, uses = 20, 500
	m := newMarks()
	known := make(map[keyset.TerminalID]uint32)
	first := make(map[keyset.TerminalID]int)
	tell := func() {
		o, taken := m.take(7)
		if len(taken) > 7 {
			t.Errorf("%d keys taken, want at most 7", len(taken))
		}
		for _, s := range o.FirstSeen {
			first[s.Terminal]++
		}
		for _, h := range o.High {
			if h.Ordinal <= known[h.Terminal] {
				t.Errorf("%s: %d told after %d", h.Terminal, h.Ordinal, known[h.Terminal])
			}
			known[h.Terminal] = h.Ordinal
		}
		m.done(taken)
	}
	var wg sync.WaitGroup
	for n := range keys {
		wg.Go(func() {
			for i := range uint32(uses) {
				m.add(keyOf(t, n), i+1, time.Unix(1, 0))
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running || m.waiting() > 0; {
		select {
		case <-done:
			running = false
		default:
		}
		tell()
	}
	for n := range keys {
		if id := keyOf(t, n).terminal; known[id] != uses || first[id] != 1 {
			t.Errorf("%s: high %d, want %d; first seen %d times", id, known[id], uses, first[id])
		}
	}
}
