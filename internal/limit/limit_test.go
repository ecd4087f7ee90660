package limit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func digest(n int) (d Digest) {
	binary.BigEndian.PutUint64(d[:], uint64(n))
	return d
}

func table(t *testing.T, r Rate, size, share int) *Table {
	t.Helper()
	out, err := NewTable(r, size, share)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBucket(t *testing.T) {
	t.Parallel()
	l := table(t, Rate{Burst: 3, Count: 6, Per: time.Hour}, 10, 10)
	now := start
	allowed := 0
	for range 10 {
		if l.Take("a", digest(1), now).Allowed {
			allowed++
		}
	}
	if allowed != 3 {
		t.Errorf("%d at once, want 3", allowed)
	}
	v := l.Take("a", digest(1), now)
	if v.Allowed || v.First || v.After < 9*time.Minute || v.After > 11*time.Minute {
		t.Errorf("then %+v", v)
	}
	if v := l.Take("a", digest(1), now.Add(-24*time.Hour)); v.Allowed {
		t.Error("an earlier clock gives tokens")
	}
	if v := l.Take("a", digest(1), now.Add(v.After)); !v.Allowed {
		t.Errorf("after the time that was told: %+v", v)
	}
	if v := l.Take("a", digest(1), now.Add(11*time.Minute)); v.Allowed || !v.First {
		t.Errorf("the first refusal since: %+v", v)
	}
}

// TestACrowdResetsNobody floods a table whose one bucket is empty: it stays empty, whatever else comes, and the room has its bound.
func TestACrowdResetsNobody(t *testing.T) {
	t.Parallel()
	const size, share = 1000, 400
	l := table(t, Rate{Burst: 5, Count: 5, Per: time.Hour}, size, share)
	victim := digest(-1)
	allowed := 0
	refused := 0
	for i := range 100_000 {
		if i%50 == 0 && l.Take("thief", victim, start).Allowed {
			allowed++
		}
		if !l.Take("thief", digest(i), start).Allowed {
			refused++
		}
	}
	if allowed != 5 {
		t.Errorf("the crowd got %d through under one key, want 5", allowed)
	}
	if l.Len() > share || refused < 100_000-share {
		t.Errorf("%d buckets, %d refused", l.Len(), refused)
	}
	for i := range share {
		if !l.Take("honest", digest(1_000_000+i), start).Allowed {
			t.Fatalf("the crowd takes the room of others: number %d is refused", i)
		}
	}
	for i := range 10 { // a third owner gets what room there is, and no more
		for j := range share {
			l.Take(fmt.Sprint("more", i), digest(2_000_000+i*share+j), start)
		}
	}
	if l.Len() != size {
		t.Errorf("%d buckets, want %d", l.Len(), size)
	}
	if v := l.Take("honest", victim, start.Add(time.Hour+time.Second)); !v.Allowed || l.Len() != 1 || len(l.owned) != 1 {
		t.Errorf("an hour later: %+v, %d buckets of %d owners", v, l.Len(), len(l.owned))
	}
}

// TestTableIsExact compares with buckets that are never forgotten.
func TestTableIsExact(t *testing.T) {
	t.Parallel()
	r := Rate{Burst: 4, Count: 7, Per: time.Minute}
	l, all := table(t, r, 64, 64), map[int]*Table{}
	random := rand.New(rand.NewPCG(1, 2))
	now, taken := start, 0
	for range 20_000 {
		now = now.Add(time.Duration(random.Int64N(int64(2 * time.Second))))
		k := random.IntN(40)
		if all[k] == nil {
			all[k] = table(t, r, 1, 1)

		}
		got, want := l.Take("a", digest(k), now), all[k].Take("a", digest(k), now)
		if got.Allowed != want.Allowed {
			t.Fatalf("key %d at %v: %+v, alone %+v", k, now, got, want)
		}
		if got.Allowed {
			taken++
		}
		if len(l.buckets) != len(l.queue) {
			t.Fatalf("%d buckets, %d in the queue", len(l.buckets), len(l.queue))
		}
	}
	if taken < 1000 {
		t.Errorf("only %d taken", taken)
	}
}

func TestNoTable(t *testing.T) {
	t.Parallel()
	for _, r := range []Rate{{}, {Burst: 1, Count: 1}, {Burst: 0, Count: 1, Per: 1}, {Burst: 1, Count: -1, Per: 1}} {
		if _, err := NewTable(r, 1, 1); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	if _, err := NewTable(Rate{1, 1, 1}, 0, 1); err == nil {
		t.Error("a table without room")
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2, 3, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 2 {
			if err := g.Enter(ctx); err != nil {
				t.Fatal(err)
			}
		}
		results := make(chan error, 3)
		for range 3 {
			go func() { results <- g.Enter(ctx) }()
		}
		synctest.Wait()
		if working, waiting := g.Depth(); working != 2 || waiting != 3 {
			t.Errorf("%d work, %d wait", working, waiting)
		}
		if err := g.Enter(ctx); !errors.Is(err, ErrFull) { // at once
			t.Errorf("one more: %v", err)
		}
		g.Leave()
		if err := <-results; err != nil {
			t.Errorf("the first that waited: %v", err)
		}
		time.Sleep(2 * time.Second)
		for range 2 {
			if err := <-results; !errors.Is(err, ErrFull) {
				t.Errorf("after its patience: %v", err)
			}
		}
		cancel()
		if err := g.Enter(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
