package feed

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// newStory returns a registry in which two terminals came and one of them was revoked, and a follower that has not heard
// of it.
//
//	1 T-1 active   2 T-2 active   3 T-1 blocked   4 T-1 active   5 T-1 revoked
func newStory(tb testing.TB) (*registry, *Follower) {
	tb.Helper()
	r := newRegistry(tb)
	r.put(tb, "T-1", nil)
	r.put(tb, "T-2", nil)
	r.status(tb, "T-1", keyset.StatusBlocked)
	r.status(tb, "T-1", keyset.StatusActive)
	r.status(tb, "T-1", keyset.StatusRevoked)
	return r, newFollower(tb, r.options(tb, "https://127.0.0.1:1"))
}

// past returns a registry that has published only the first n records of the epoch.
func (r *registry) past(tb testing.TB, n int) *registry {
	tb.Helper()
	p := &registry{
		pki: r.pki, signer: r.signer, now: r.now, epoch: r.epoch, log: slices.Clone(r.log[:n]), hashes: slices.Clone(r.hashes[:n]), about: slices.Clone(r.about[:n]),
		latest: make(map[keyset.TerminalID]uint64), known: make(map[keyset.TerminalID]keyset.Terminal), news: make(chan struct{}),
	}
	for _, envelope := range p.log {
		s, err := keyset.ParseSigned(envelope)
		check(tb, err)
		rec, err := ParseRecord(s.Payload)
		check(tb, err)
		p.latest[rec.Terminal.ID], p.known[rec.Terminal.ID] = rec.Sequence, rec.Terminal
	}
	return p
}

// mustPage returns the page for an asker.
func (r *registry) mustPage(tb testing.TB, epoch, after uint64) *Page {
	tb.Helper()
	p, err := r.page(epoch, after)
	check(tb, err)
	return p
}

// head signs a head of the registry, changed.
func (r *registry) head(tb testing.TB, change func(*Head)) []byte {
	tb.Helper()
	h := &Head{
		Tenant: tenant, Epoch: r.epoch, Sequence: uint64(len(r.log)), Hash: r.hashes[len(r.hashes)-1],
		Time: r.now().Truncate(time.Millisecond), Objects: uint64(len(r.latest)),
	}
	change(h)
	return r.signer.sign(tb, kindHead, payload(tb, h))
}

func (f *Follower) learnPage(tb testing.TB, p *Page) error {
	tb.Helper()
	body, err := p.Marshal()
	check(tb, err)
	_, err = f.learn(body)
	return err
}

// at demands a position and what is said about T-1 there.
func (f *Follower) at(t *testing.T, epoch, sequence uint64, status keyset.Status) {
	t.Helper()
	if e, s := f.Position(); e != epoch || s != sequence {
		t.Errorf("at %d, %d, want %d, %d", e, s, epoch, sequence)
	}
	if got, ok := f.Terminal(tenant, "T-1"); ok != (status != 0) || ok && got.Status != status {
		t.Errorf("T-1 is %+v, want %v", got, status)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	r, f := newStory(t)
	f.at(t, 0, 0, 0)
	check(t, f.learnPage(t, r.past(t, 2).mustPage(t, 0, 0)))
	f.at(t, 1, 2, keyset.StatusActive)
	check(t, f.learnPage(t, r.past(t, 3).mustPage(t, 1, 2)))
	f.at(t, 1, 3, keyset.StatusBlocked)
	check(t, f.learnPage(t, r.past(t, 3).mustPage(t, 1, 3))) // a sign of life
	f.at(t, 1, 3, keyset.StatusBlocked)
	check(t, f.learnPage(t, r.mustPage(t, 1, 3))) // two at once
	f.at(t, 1, 5, keyset.StatusRevoked)
	if got := f.Terminals(); len(got) != 2 || got[0].ID != "T-1" || got[1].ID != "T-2" {
		t.Errorf("terminals %+v", got)
	}
	if _, ok := f.Terminal("OTHER", "T-1"); ok {
		t.Error("a terminal of another tenant is known")
	}
	check(t, f.learnPage(t, r.mustPage(t, 0, 0))) // a snapshot on top
	f.at(t, 1, 5, keyset.StatusRevoked)
	r.restart(t)
	check(t, f.learnPage(t, r.mustPage(t, 1, 5)))
	f.at(t, 2, 2, keyset.StatusRevoked)
}

// TestEmptyFeed: an authority without terminals is one that can be heard.
func TestEmptyFeed(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	f := newFollower(t, r.options(t, "https://127.0.0.1:1"))
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	f.at(t, 1, 0, 0)
	check(t, f.Check(t.Context()))
	check(t, f.learnPage(t, r.mustPage(t, 1, 0)))
	r.put(t, "T-1", nil)
	check(t, f.learnPage(t, r.mustPage(t, 1, 0)))
	f.at(t, 1, 1, keyset.StatusActive)
}

// TestOnlyInOrder shows a follower at record 2 pages that do not follow: none may change anything.
func TestOnlyInOrder(t *testing.T) {
	t.Parallel()
	r, _ := newStory(t)
	r2 := func() *registry { return r.past(t, 2) }
	next := func(change func(*Page)) *Page {
		p := r.mustPage(t, 1, 2) // 3, 4, 5
		change(p)
		return p
	}
	reorder := func(order ...int) *Page {
		return next(func(p *Page) {
			records := p.Records
			p.Records = nil
			for _, i := range order {
				p.Records = append(p.Records, records[i])
			}
		})
	}
	// another third record, properly signed and in its place, and one that says what record 1 said
	fork := r.past(t, 2)
	fork.status(t, "T-2", keyset.StatusRetired)
	replay := r.past(t, 2)
	replay.put(t, "T-1", func(t *keyset.Terminal) { *t = newTerminal("T-1") })
	twice := r.past(t, 2)
	twice.put(t, "T-3", nil)
	twice.put(t, "T-3", func(t *keyset.Terminal) { *t = newTerminal("T-3") })
	skip := r.past(t, 2)
	skip.log, skip.hashes, skip.about = append(skip.log, skip.log[1]), append(skip.hashes, [32]byte{9}), append(skip.about, "T-2")
	skip.put(t, "T-1", nil) // signed as 4 after a 3 that nobody saw
	nextEpoch := r.past(t, 2)
	nextEpoch.restart(t)
	elsewhere := newRegistry(t)
	elsewhere.put(t, "T-1", nil)
	for name, c := range map[string]struct {
		page *Page
		want error
	}{
		"record 3 is missing":       {reorder(1, 2), ErrOrder},
		"record 4 is missing":       {reorder(0, 2), ErrOrder},
		"record 5 is missing":       {reorder(0, 1), nil}, // it comes with the next page
		"only the last":             {reorder(2), ErrOrder},
		"record 3 twice":            {reorder(0, 0, 1, 2), ErrOrder},
		"4 before 3":                {reorder(1, 0, 2), ErrOrder},
		"backwards":                 {reorder(2, 1, 0), ErrOrder},
		"no records":                {reorder(), ErrOrder},
		"from the beginning":        {next(func(p *Page) { p.Records = slices.Concat(r.log[:2], p.Records) }), ErrOrder},
		"the last one again":        {next(func(p *Page) { p.Records = slices.Concat(r.log[1:2], p.Records) }), ErrOrder},
		"a record of a fork first":  {next(func(p *Page) { p.Records = slices.Concat(fork.log[2:3], p.Records) }), ErrOrder},
		"another record 3":          {next(func(p *Page) { p.Records[0] = fork.log[2] }), ErrOrder},
		"an old record, re-signed":  {replay.mustPage(t, 1, 2), ErrOrder},
		"one twice within a page":   {twice.mustPage(t, 1, 2), ErrOrder},
		"signed after a gap":        {&Page{Head: skip.head(t, func(*Head) {}), Records: skip.log[3:], Chain: r.signer.chain}, ErrOrder},
		"a new epoch, no snapshot":  {&Page{Head: nextEpoch.head(t, func(*Head) {}), Records: nextEpoch.log, Chain: r.signer.chain}, ErrOrder},
		"head of another record":    {next(func(p *Page) { p.Head = r.head(t, func(h *Head) { h.Hash[0] ^= 1 }) }), ErrOrder},
		"head of fewer terminals":   {next(func(p *Page) { p.Head = r.head(t, func(h *Head) { h.Objects-- }) }), ErrOrder},
		"head of more terminals":    {next(func(p *Page) { p.Head = r.head(t, func(h *Head) { h.Objects++ }) }), ErrOrder},
		"head behind its records":   {next(func(p *Page) { p.Head = r.past(t, 4).head(t, func(*Head) {}) }), ErrOrder},
		"head behind what is known": {r.past(t, 1).mustPage(t, 1, 1), ErrRollback},
		"head of another tenant":    {next(func(p *Page) { p.Head = r.head(t, func(h *Head) { h.Tenant = "OTHER" }) }), ErrSignature},
		"head in place of a fork":   {&Page{Head: fork.past(t, 2).head(t, func(h *Head) { h.Hash = fork.hashes[2] }), Chain: r.signer.chain}, ErrOrder},
		"forged head":               {next(func(p *Page) { p.Head = elsewhere.head(t, func(*Head) {}) }), ErrSignature},
		"record as a head":          {next(func(p *Page) { p.Head = p.Records[2] }), ErrFormat},
		"forged record":             {next(func(p *Page) { p.Records[1] = elsewhere.log[0]; p.Chain = append(p.Chain, elsewhere.signer.chain...) }), ErrSignature},
		"flipped bit":               {next(func(p *Page) { p.Records[1] = slices.Clone(p.Records[1]); p.Records[1][40] ^= 1 }), ErrSignature},
		"said to be a snapshot":     {next(func(p *Page) { p.Snapshot = true }), ErrOrder},
	} {
		f := newFollower(t, r.options(t, "https://127.0.0.1:1"))
		check(t, f.learnPage(t, r2().mustPage(t, 0, 0)))
		err := f.learnPage(t, c.page)
		switch {
		case name == "record 5 is missing":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			f.at(t, 1, 4, keyset.StatusActive)
			continue
		case c.want == nil && err == nil, !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		f.at(t, 1, 2, keyset.StatusActive)
		if _, ok := f.Terminal(tenant, "T-3"); ok || len(f.Terminals()) != 2 {
			t.Errorf("%s: terminals %v", name, f.Terminals())
		}
		check(t, f.learnPage(t, r.mustPage(t, 1, 2))) // the real thing still follows
		f.at(t, 1, 5, keyset.StatusRevoked)
	}
}

// TestSnapshots shows a follower at record 3 snapshots that leave something out or say something else.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	r, _ := newStory(t)
	whole := func(change func(*Page, *Head)) *Page {
		p, h := r.mustPage(t, 0, 0), &Head{} // 2, 5
		p.Head = r.head(t, func(x *Head) { *h = *x })
		change(p, h)
		if h.Snapshot == [32]byte{} {
			h.Snapshot = SnapshotDigest(p.Records)
		}
		p.Head = r.signer.sign(t, kindHead, payload(t, h))
		return p
	}
	stale := r.past(t, 4)
	early := r.past(t, 2)
	fork := r.past(t, 1) // T-2 came with another record
	fork.put(t, "T-2", func(t *keyset.Terminal) { t.Serial = "ff" })
	for range 3 {
		fork.put(t, "T-1", nil)
	}
	late := r.past(t, 1) // T-9 came when T-2 did
	late.put(t, "T-9", nil)
	late.put(t, "T-2", nil)
	late.put(t, "T-1", nil)
	late.put(t, "T-1", nil)
	back := r.past(t, 4)
	back.put(t, "T-1", func(t *keyset.Terminal) { *t = newTerminal("T-1") })
	older := r.past(t, 5)
	older.epoch = 2
	elsewhere := newRegistry(t)
	elsewhere.put(t, "T-1", nil)
	for name, c := range map[string]struct {
		page *Page
		want error
	}{
		"whole":                              {whole(func(*Page, *Head) {}), nil},
		"a terminal left out, head forged":   {whole(func(p *Page, h *Head) { p.Records = p.Records[1:]; h.Objects = 1 }), ErrOrder},
		"a terminal left out, head counts":   {whole(func(p *Page, h *Head) { p.Records = p.Records[1:] }), ErrOrder},
		"a terminal left out, head true":     {whole(func(p *Page, h *Head) { h.Snapshot = SnapshotDigest(p.Records); p.Records = p.Records[1:] }), ErrOrder},
		"the last record left out":           {whole(func(p *Page, h *Head) { p.Records = p.Records[:1]; h.Objects = 1 }), ErrOrder},
		"an older record of one":             {whole(func(p *Page, h *Head) { p.Records = [][]byte{r.log[0], r.log[1]} }), ErrOrder},
		"an older record beside the new one": {whole(func(p *Page, h *Head) { p.Records = [][]byte{r.log[0], r.log[1], r.log[4]} }), ErrOrder},
		"older, and counted":                 {whole(func(p *Page, h *Head) { p.Records = [][]byte{r.log[0], r.log[1], r.log[4]}; h.Objects = 3 }), ErrOrder},
		"backwards":                          {whole(func(p *Page, h *Head) { slices.Reverse(p.Records) }), ErrOrder},
		"one twice":                          {whole(func(p *Page, h *Head) { p.Records = [][]byte{r.log[1], r.log[1], r.log[4]} }), ErrOrder},
		"every record, in their order":       {whole(func(p *Page, h *Head) { p.Records = r.log }), ErrOrder},
		"neighbours that do not follow":      {whole(func(p *Page, h *Head) { p.Records = [][]byte{fork.log[2], r.log[3], r.log[4]} }), ErrOrder},
		"the next record only":               {stale.mustPage(t, 0, 0), nil},
		"from before":                        {early.mustPage(t, 0, 0), ErrRollback},
		"of another history":                 {fork.mustPage(t, 0, 0), ErrOrder},
		"of a terminal that came late":       {late.mustPage(t, 0, 0), ErrOrder},
		"back to an old generation":          {back.mustPage(t, 0, 0), ErrOrder},
		"records of another epoch":           {&Page{Snapshot: true, Records: r.log[1:], Chain: r.signer.chain, Head: older.head(t, func(h *Head) { h.Snapshot = SnapshotDigest(r.log[1:]) })}, ErrOrder},
		"by a stranger":                      {elsewhere.mustPage(t, 0, 0), ErrSignature},
		"nothing at all":                     {whole(func(p *Page, h *Head) { p.Records = nil; *h = Head{Tenant: h.Tenant, Epoch: 1, Time: h.Time} }), ErrRollback},
		"nothing at all, of a new epoch":     {whole(func(p *Page, h *Head) { p.Records = nil; *h = Head{Tenant: h.Tenant, Epoch: 2, Time: h.Time} }), nil},
		"not said to be one":                 {whole(func(p *Page, h *Head) { p.Snapshot = false }), ErrOrder},
	} {
		f := newFollower(t, r.options(t, "https://127.0.0.1:1"))
		check(t, f.learnPage(t, r.past(t, 3).mustPage(t, 0, 0)))
		err := f.learnPage(t, c.page)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil {
			f.at(t, 1, 3, keyset.StatusBlocked)
			check(t, f.learnPage(t, r.mustPage(t, 1, 3)))
			f.at(t, 1, 5, keyset.StatusRevoked)
		}
	}
}

// TestEpochs: a new epoch may begin anywhere, and never ends in an old one.
func TestEpochs(t *testing.T) {
	t.Parallel()
	r, f := newStory(t)
	old := r.past(t, 5)
	r.restart(t)
	r.restart(t)
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	f.at(t, 3, 2, keyset.StatusRevoked)
	for name, p := range map[string]*Page{"snapshot": old.mustPage(t, 0, 0), "records": old.mustPage(t, 1, 2), "sign of life": old.mustPage(t, 1, 5)} {
		if err := f.learnPage(t, p); !errors.Is(err, ErrRollback) {
			t.Errorf("%s of epoch 1: %v, want ErrRollback", name, err)
		}
	}
	f.at(t, 3, 2, keyset.StatusRevoked)
}

// TestOldHeads: what was true some time ago is no sign of life.
func TestOldHeads(t *testing.T) {
	t.Parallel()
	r, f := newStory(t)
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	for _, lag := range []time.Duration{-time.Hour, -6 * time.Minute, 6 * time.Minute} {
		r.now = func() time.Time { return time.Now().Add(lag) }
		if err := f.learnPage(t, r.mustPage(t, 1, 5)); !errors.Is(err, ErrStale) {
			t.Errorf("head of %v from now: %v, want ErrStale", lag, err)
		}
	}
	r.now = func() time.Time { return time.Now().Add(-4 * time.Minute) }
	check(t, f.learnPage(t, r.mustPage(t, 1, 5)))
	if age := time.Since(f.Heard()); age < 3*time.Minute {
		t.Errorf("heard %v ago, by a head of 4 minutes ago", age)
	}
	r.now = func() time.Time { return time.Now().Add(4 * time.Minute) }
	check(t, f.learnPage(t, r.mustPage(t, 1, 5)))
	if age := time.Since(f.Heard()); age < 0 || age > time.Minute {
		t.Errorf("heard %v ago, just now", age)
	}
}

// TestEpochsThatHaveNotBegun: an epoch is the second in which it began. One page of a stolen key, from the end of time,
// would bar every honest epoch after it.
func TestEpochsThatHaveNotBegun(t *testing.T) {
	t.Parallel()
	honest, _ := newStory(t)
	honest.epoch = uint64(time.Now().Unix()) - 1000
	honest.restart(t)
	at := honest.epoch
	thief := honest.past(t, 2)
	o := honest.options(t, "https://127.0.0.1:1")
	o.Cache = filepath.Join(t.TempDir(), "feed.cache")
	in := func(d time.Duration) uint64 { return uint64(time.Now().Add(d).Unix()) }
	f := newFollower(t, o)
	check(t, f.learnPage(t, honest.mustPage(t, 0, 0)))
	for _, epoch := range []uint64{in(defaultStale + time.Minute), in(24 * 365 * time.Hour), math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		thief.epoch = epoch - 1
		thief.restart(t)
		if err := f.learnPage(t, thief.mustPage(t, 0, 0)); !errors.Is(err, ErrStale) {
			t.Errorf("epoch %d: %v, want ErrStale", epoch, err)
		}
		f.at(t, at, 2, keyset.StatusRevoked)
		if err := newFollower(t, o).learnPage(t, thief.mustPage(t, 0, 0)); !errors.Is(err, ErrStale) {
			t.Errorf("epoch %d, after a restart: %v, want ErrStale", epoch, err)
		}
	}
	check(t, f.learnPage(t, honest.mustPage(t, at, 2)))

	// A file that has taken one in is no bar either.
	body, err := thief.mustPage(t, 0, 0).Marshal()
	check(t, err)
	check(t, (&cache{path: o.Cache}).keep(body, true, true, time.Now()))
	f = newFollower(t, o)
	f.at(t, 0, 0, 0)
	check(t, f.learnPage(t, honest.mustPage(t, 0, 0)))
	f.at(t, at, 2, keyset.StatusRevoked)

	thief.epoch = in(defaultStale-time.Minute) - 1 // a clock may be a little ahead
	thief.restart(t)
	check(t, f.learnPage(t, thief.mustPage(t, 0, 0)))
	f.at(t, thief.epoch, 2, keyset.StatusRevoked)
}
