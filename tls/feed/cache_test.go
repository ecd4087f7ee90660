package feed

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// cached returns the registry of newStory and the options of a follower with a cache file that has learnt it in three
// pages.
func cached(t *testing.T) (*registry, Options) {
	t.Helper()
	r, _ := newStory(t)
	o := r.options(t, "https://127.0.0.1:1")
	o.Cache = filepath.Join(t.TempDir(), "feed.cache")
	f := newFollower(t, o)
	check(t, f.learnPage(t, r.past(t, 2).mustPage(t, 0, 0)))
	check(t, f.learnPage(t, r.past(t, 3).mustPage(t, 1, 2)))
	check(t, f.learnPage(t, r.mustPage(t, 1, 3)))
	return r, o
}

func TestCache(t *testing.T) {
	t.Parallel()
	_, o := cached(t)
	info, err := os.Stat(o.Cache)
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	f := newFollower(t, o)
	f.at(t, 1, 5, keyset.StatusRevoked)
	check(t, f.Check(t.Context()))
	check(t, f.Admit(terminal("T-2"), "0a0b"))
	if err := f.Admit(terminal("T-1"), "0a0b"); err == nil {
		t.Error("a revoked terminal is admitted from the cache")
	}
	c := new(clock)
	c.set(6 * time.Minute)
	o.Clock = c.now
	f = newFollower(t, o)
	f.at(t, 1, 5, keyset.StatusRevoked)
	if err := f.Admit(terminal("T-2"), "0a0b"); !errors.Is(err, ErrStale) {
		t.Errorf("from a cache of 6 minutes ago: %v, want ErrStale", err)
	}
	c.set(-6 * time.Minute)
	f = newFollower(t, o)
	if err := f.Admit(terminal("T-2"), "0a0b"); !errors.Is(err, ErrStale) {
		t.Errorf("from a cache that is written in 6 minutes: %v, want ErrStale", err)
	}
}

// TestCacheKeepsFromGoingBack: an authority that has gone back while the follower was down is not believed.
func TestCacheKeepsFromGoingBack(t *testing.T) {
	t.Parallel()
	r, o := cached(t)
	f := newFollower(t, o)
	if err := f.learnPage(t, r.past(t, 4).mustPage(t, 0, 0)); !errors.Is(err, ErrRollback) {
		t.Errorf("%v, want ErrRollback", err)
	}
	f = newFollower(t, o)
	f.at(t, 1, 5, keyset.StatusRevoked)
}

// TestDamagedCache changes the file in every way: what comes of it is a true state of the past, and no terminal is
// admitted before the authority has been heard.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	r, o := cached(t)
	whole, err := os.ReadFile(o.Cache)
	check(t, err)
	states := map[uint64]keyset.Status{0: 0, 2: keyset.StatusActive, 3: keyset.StatusBlocked, 5: keyset.StatusRevoked}
	seen := make(map[uint64]bool)
	damaged := func(what string, b []byte) {
		path := filepath.Join(t.TempDir(), "feed.cache")
		check(t, os.WriteFile(path, b, 0o600))
		o.Cache = path
		f := newFollower(t, o)
		_, sequence := f.Position()
		seen[sequence] = true
		status, ok := states[sequence]
		if !ok {
			t.Fatalf("%s: at %d", what, sequence)
		}
		f.at(t, min(1, sequence), sequence, status)
		if sequence < 5 && !f.Heard().IsZero() && !bytes.HasPrefix(whole, b) {
			t.Errorf("%s: heard at %v", what, f.Heard())
		}
		if sequence == 5 || bytes.HasPrefix(whole, b) {
			return // nothing is missing that can be known to be
		}
		if err := f.Admit(terminal("T-2"), "0a0b"); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want ErrStale", what, err)
		}
	}
	for n := 0; n < len(whole); n += 97 {
		damaged("cut", whole[:n])
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		damaged("flipped", flipped)
	}
	for _, sequence := range []uint64{0, 2, 3} {
		if !seen[sequence] {
			t.Errorf("no damage led to record %d", sequence)
		}
	}
	damaged("longer", append(bytes.Clone(whole), 0))
	damaged("a page too long", append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff, 1))
	damaged("empty", nil)
	damaged("another file", []byte("hello"))

	// A follower repairs the file with the first snapshot that it gets.
	path := filepath.Join(t.TempDir(), "feed.cache")
	check(t, os.WriteFile(path, whole[:len(whole)-1], 0o600))
	o.Cache, o.URLs = path, []string{r.listen(t)}
	f := newFollower(t, o)
	f.at(t, 1, 3, keyset.StatusBlocked)
	if err := f.Check(t.Context()); !errors.Is(err, ErrStale) {
		t.Errorf("before the first page: %v", err)
	}
	run(t, f)
	check(t, f.WaitFor(soon(t), 1, 5))
	until(t, "repaired", func() bool {
		again := newFollower(t, o)
		_, sequence := again.Position()
		return sequence == 5 && !again.Heard().IsZero()
	})
}

// TestCacheOfAStranger: a file that another authority signed is worth nothing.
func TestCacheOfAStranger(t *testing.T) {
	t.Parallel()
	_, o := cached(t)
	other := newRegistry(t)
	mine := other.options(t, "https://127.0.0.1:1")
	mine.Cache = o.Cache
	f := newFollower(t, mine)
	f.at(t, 0, 0, 0)
	if err := f.Check(t.Context()); !errors.Is(err, ErrStale) {
		t.Errorf("%v, want ErrStale", err)
	}
}

// TestCacheStaysSmall: records and signs of life do not fill the disk.
func TestCacheStaysSmall(t *testing.T) {
	t.Parallel()
	r, o := cached(t)
	f := newFollower(t, o)
	size := func() int64 {
		info, err := os.Stat(o.Cache)
		check(t, err)
		return info.Size()
	}
	for range 10 {
		check(t, f.learnPage(t, r.mustPage(t, 1, 5)))
	}
	before := size()
	for range 100 {
		check(t, f.learnPage(t, r.mustPage(t, 1, 5)))
	}
	if got := size(); got != before {
		t.Errorf("100 signs of life make the file grow from %d to %d bytes", before, got)
	}
	f.cache.size = 2*f.cache.whole + cacheSlack + 1
	f.options.URLs = []string{r.listen(t)}
	if _, err := f.poll(t.Context(), f.options.URLs[0]); err != nil {
		t.Fatal(err)
	}
	if r.asked[0] != "epoch=0&after=0" || f.cache.full() {
		t.Errorf("a full cache asks for %v", r.asked)
	}
}

// TestCacheThatCannotBeWritten: the follower goes on, and leaves no file that is older than what it knew.
func TestCacheThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r, o := cached(t)
	o.Cache = filepath.Join(t.TempDir(), "missing", "feed.cache")
	f := newFollower(t, o)
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	f.at(t, 1, 5, keyset.StatusRevoked)

	r, o = cached(t)
	f = newFollower(t, o)
	check(t, os.Remove(o.Cache))
	check(t, os.Mkdir(o.Cache, 0o700)) // neither to be written nor to be replaced
	sequence := r.status(t, "T-2", keyset.StatusRevoked)
	check(t, f.learnPage(t, r.mustPage(t, 1, 5)))
	f.at(t, 1, sequence, keyset.StatusRevoked)
	if _, err := os.Stat(o.Cache); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if f.cache.full() {
		t.Error("a cache that is gone is full")
	}
}

// TestCacheComesBack: while the file cannot be written, a snapshot is asked for once a minute and terminals are served
// from what comes; when it can be, it holds the feed again, and keeps it from going back.
func TestCacheComesBack(t *testing.T) {
	t.Parallel()
	r, o := cached(t)
	c := new(clock)
	o.Clock, r.now, o.URLs = c.now, c.now, []string{r.listen(t)}
	f := newFollower(t, o)
	check(t, f.CacheErr())
	check(t, os.Remove(o.Cache))
	check(t, os.MkdirAll(filepath.Join(o.Cache, "in the way"), 0o700))
	ask := func(want string, broken bool) {
		t.Helper()
		sequence := r.put(t, "T-3", nil) // news, so that nobody waits
		if _, err := f.poll(t.Context(), o.URLs[0]); err != nil {
			t.Fatal(err)
		}
		if got := r.asked[len(r.asked)-1]; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
		if _, at := f.Position(); at != sequence {
			t.Errorf("at %d, want %d", at, sequence)
		}
		check(t, f.Check(t.Context()))
		check(t, f.Admit(terminal("T-2"), "0a0b"))
		if err := f.CacheErr(); (err != nil) != broken {
			t.Errorf("after %s: CacheErr is %v", want, err)
		}
	}
	ask("epoch=1&after=5", true)
	ask("epoch=0&after=0", true) // at once, as no snapshot was asked for lately
	ask("epoch=1&after=7", true)
	c.set(cachePause - 10*time.Second)
	ask("epoch=1&after=8", true)
	c.set(cachePause + time.Second)
	ask("epoch=0&after=0", true)
	ask("epoch=1&after=10", true)
	check(t, os.RemoveAll(o.Cache))
	ask("epoch=1&after=11", true)
	c.set(2*cachePause + 2*time.Second)
	ask("epoch=0&after=0", false)
	ask("epoch=1&after=13", false)
	again := newFollower(t, o)
	if err := again.learnPage(t, r.past(t, 13).mustPage(t, 0, 0)); !errors.Is(err, ErrRollback) {
		t.Errorf("after a restart, from record 14 to 13: %v, want ErrRollback", err)
	}

	// A snapshot that cannot be had does not keep the records away.
	check(t, os.Remove(o.Cache))
	ask("epoch=1&after=14", true)
	c.set(4 * cachePause)
	r.set(func() { r.down = true })
	if _, err := f.poll(t.Context(), o.URLs[0]); err == nil || r.asked[len(r.asked)-1] != "epoch=0&after=0" {
		t.Errorf("asked %v: %v", r.asked, err)
	}
	r.set(func() { r.down = false })
	ask("epoch=1&after=15", true)
	c.set(5 * cachePause)
	ask("epoch=0&after=0", false)
}

// TestCacheThatCannotBeRead: a damaged file is an error until a snapshot stands in its place.
func TestCacheThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r, o := cached(t)
	check(t, os.Truncate(o.Cache, 100))
	f := newFollower(t, o)
	if f.CacheErr() == nil {
		t.Error("a damaged file is no error")
	}
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	check(t, f.CacheErr())
	f = newFollower(t, r.options(t, "https://127.0.0.1:1"))
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	check(t, f.CacheErr())
	if f.cache.due(time.Now()) {
		t.Error("a follower without a cache misses it")
	}
}
