// Package limit holds how often somebody may do something, for more somebodies than fit into memory.
//
// A [Table] has a bucket of tokens for each key that did something lately (golang.org/x/time/rate). A bucket is forgotten only when it
// is full again, which is when forgetting it changes nothing. So a crowd of keys never resets the bucket of one: when there is no room
// for another key, it is refused. Each owner, who brings keys along, has a share of the room, so that one who makes keys up takes the
// room of nobody else.
//
// It is not a quota for good: buckets are of one process, and full after a restart.
package limit

import (
	"cmp"
	"container/heap"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Digest is the key of a bucket. What may not stand in memory or is long comes as a keyed digest of itself.
type Digest [32]byte

// Rate is how much may be done: Burst at once, and Count in each Per after that. The zero value permits nothing.
type Rate struct {
	Burst int
	Count int
	Per   time.Duration
}

// Check reports a rate that permits nothing, or that cannot be counted.
func (r Rate) Check() error {
	if r.Burst < 1 || r.Count < 1 || r.Per <= 0 {
		return fmt.Errorf("limit: %d at once and %d in %v permits nothing", r.Burst, r.Count, r.Per)
	}
	return nil
}

func (r Rate) limit() rate.Limit { return rate.Limit(float64(r.Count) / r.Per.Seconds()) }

// Verdict says whether something may be done now.
type Verdict struct {
	Allowed bool
	After   time.Duration // when not: how long until it may be asked again
	// First says of a refusal that the one before, under this key, was allowed: for who records refusals without letting a flood of
	// them fill the records. A refusal for want of room is never the first.
	First bool
}

// Table is a bucket for each key. It is safe for concurrent use. Time goes on for it and never back.
type Table struct {
	rate  Rate
	size  int // buckets at most
	share int // of each owner

	mu      sync.Mutex
	now     time.Time // latest that was seen
	buckets map[Digest]*bucket
	owned   map[string]int
	queue   queue // by when they are full
}

// bucket is what one key has left.
type bucket struct {
	key     Digest
	owner   string // who brought it
	tokens  *rate.Limiter
	full    time.Time // when there is nothing to remember any more
	refused bool      // the last one
	at      int       // in the queue
}

// NewTable returns a table of at most size buckets, of which one owner fills no more than share. Both are 1 or more.
func NewTable(r Rate, size, share int) (*Table, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if size < 1 || share < 1 {
		return nil, fmt.Errorf("limit: room for %d buckets, %d of one owner", size, share)
	}
	return &Table{rate: r, size: size, share: share, buckets: make(map[Digest]*bucket), owned: make(map[string]int)}, nil
}

// Take takes one token of a key, if there is one.
func (t *Table) Take(owner string, key Digest, now time.Time) Verdict {
	return t.TakeN(owner, key, now, 1)
}

// TakeN takes n tokens of a key, all or none. More than a bucket holds are never allowed.
func (t *Table) TakeN(owner string, key Digest, now time.Time, n int) Verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(now)
	b := t.buckets[key]
	if b == nil {
		if len(t.buckets) >= t.size || t.owned[owner] >= t.share {
			return Verdict{After: t.room()}
		}
		b = &bucket{key: key, owner: owner, tokens: rate.NewLimiter(t.rate.limit(), t.rate.Burst)}
		t.buckets[key] = b
		t.owned[owner]++
		b.full = t.now
		heap.Push(&t.queue, b)
	}
	if !b.tokens.AllowN(t.now, n) {
		first := !b.refused
		b.refused = true
		lacks := float64(n) - b.tokens.TokensAt(t.now)
		return Verdict{After: t.refill(lacks), First: first}
	}
	b.refused = false
	t.settle(b)
	return Verdict{Allowed: true}
}

// Len returns how many buckets there are.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.buckets)
}

// advance lets time go on, and forgets the buckets that are full by now.
func (t *Table) advance(now time.Time) {
	if now.After(t.now) {
		t.now = now
	}
	for len(t.queue) > 0 && !t.queue[0].full.After(t.now) {
		b := heap.Pop(&t.queue).(*bucket)
		delete(t.buckets, b.key)
		if t.owned[b.owner]--; t.owned[b.owner] == 0 {
			delete(t.owned, b.owner)
		}
	}
}

// settle notes when a bucket is full.
func (t *Table) settle(b *bucket) {
	b.full = t.now.Add(t.refill(float64(t.rate.Burst) - b.tokens.TokensAt(t.now)))
	heap.Fix(&t.queue, b.at)
}

// refill is how long a bucket takes for so many tokens, and never too short.
func (t *Table) refill(tokens float64) time.Duration {
	return time.Duration(max(tokens, 0)*float64(t.rate.Per)/float64(t.rate.Count)) + 1
}

// room is how long it takes at least until there is room for another key.
func (t *Table) room() time.Duration {
	if len(t.queue) == 0 {
		return t.refill(1)
	}
	return max(t.queue[0].full.Sub(t.now), 1)
}

// queue is a heap of buckets; the one that is full first is in front.
type queue []*bucket

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return cmp.Less(q[i].full.UnixNano(), q[j].full.UnixNano()) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	b := x.(*bucket)
	b.at = len(*q)
	*q = append(*q, b)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	b := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return b
}
