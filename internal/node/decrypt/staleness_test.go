package decrypt

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestStaleness lets the feed fall silent, and be heard again.
func TestStaleness(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	var log bytes.Buffer
	var heard time.Time
	s := &staleness{heard: func() time.Time { return heard }, log: slog.New(slog.NewTextHandler(&log, nil)), since: noon}
	type step struct {
		heard, now    int // -1: never
		stale, missed int // lines of the log so far
	}
	for _, step := range []step{
		{-1, 30, 0, 0}, {-1, 31, 1, 0}, {-1, 40, 1, 0}, {40, 41, 1, 1}, {40, 70, 1, 1}, {40, 71, 2, 1}, {40, 200, 2, 1}, {200, 201, 2, 2},
	} {
		heard = time.Time{}
		if step.heard >= 0 {
			heard = at(step.heard)
		}
		s.look(at(step.now))
		if a, b := strings.Count(log.String(), "feed is stale"), strings.Count(log.String(), "heard again"); a != step.stale || b != step.missed {
			t.Errorf("at %d, heard at %d: %d alarms and %d ends, want %d and %d", step.now, step.heard, a, b, step.stale, step.missed)
		}
	}
}
