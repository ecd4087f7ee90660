package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
)

// TestPromise goes through every setting that a server may have.
func TestPromise(t *testing.T) {
	t.Parallel()
	good := settings{fsync: "on", fullPageWrites: "on", synchronousCommit: "on"}
	with := func(change func(*settings)) settings {
		s := good
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		settings settings
		standbys int
		options  Options
		want     Promise // 0: ErrUnsafe
		says     string
	}{
		"alone":                       {good, 0, Options{}, SingleServer, ""},
		"alone, standby required":     {good, 0, Options{RequireStandby: true}, 0, "synchronous_standby_names is empty"},
		"no fsync":                    {with(func(s *settings) { s.fsync = "off" }), 0, Options{}, 0, "fsync is off"},
		"torn pages":                  {with(func(s *settings) { s.fullPageWrites = "off" }), 0, Options{}, 0, "full_page_writes is off"},
		"no commit":                   {with(func(s *settings) { s.synchronousCommit = "off" }), 0, Options{AcceptLag: true}, 0, "synchronous_commit is off"},
		"local commit, alone":         {with(func(s *settings) { s.synchronousCommit = "local" }), 0, Options{}, SingleServer, ""},
		"local commit, standby":       {with(func(s *settings) { s.synchronousCommit, s.standbyNames = "local", "s" }), 1, Options{}, 0, "synchronous_commit is local"},
		"remote write, standby":       {with(func(s *settings) { s.synchronousCommit, s.standbyNames = "remote_write", "s" }), 1, Options{AcceptLag: true}, 0, "synchronous_commit is remote_write"},
		"standby":                     {with(func(s *settings) { s.standbyNames = "s" }), 1, Options{}, SynchronousStandby, ""},
		"standby, away":               {with(func(s *settings) { s.standbyNames = "s" }), 0, Options{RequireStandby: true}, SynchronousStandby, ""},
		"standby, applied":            {with(func(s *settings) { s.synchronousCommit, s.standbyNames = "remote_apply", "s" }), 1, Options{}, SynchronousStandby, ""},
		"nobody waits":                {good, 1, Options{}, 0, "1 standbys follow"},
		"blank names":                 {with(func(s *settings) { s.standbyNames = "  " }), 1, Options{}, 0, "1 standbys follow"},
		"nobody waits, accepted":      {good, 2, Options{AcceptLag: true}, AsynchronousStandby, ""},
		"waits, and lag was accepted": {with(func(s *settings) { s.standbyNames = "s" }), 1, Options{AcceptLag: true}, SynchronousStandby, ""},
	} {
		got, err := c.options.promise(c.settings, c.standbys)
		if got != c.want || (err == nil) != (c.want != 0) || err != nil && (!errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v %v, want %v", name, got, err, c.want)
		}
	}
	for _, p := range []Promise{SingleServer, SynchronousStandby, AsynchronousStandby} {
		if p.String() == "" || p.Explain() == p.String() {
			t.Errorf("promise %d says %q, %q", p, p, p.Explain())
		}
	}
}

// TestUnsafeServers has real servers refused, when a store is opened and while it is in use.
func TestUnsafeServers(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t)
	o := options(c, c.Database(t), "latchkey", "DECRYPT-1")
	o.Patience = 2 * time.Second
	migrate(t, o)
	set := func(line string) {
		t.Helper()
		if err := c.Configure(line); err != nil {
			t.Fatal(err)
		}
		c.Reload(t)
	}
	settled := func(name, value string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			got, err := c.SQL("postgres", "SHOW "+name)
			if err == nil && got == value {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is %q %v, want %s", name, got, err, value)
			}
		}
	}
	s := open(t, o)
	if got := s.Promise(); got != SingleServer {
		t.Errorf("promise %v, want %v", got, SingleServer)
	}
	n := uint32(0)
	claim := func() error {
		n++
		_, err := s.Claim(t.Context(), claimSet(fmt.Sprint(n), 1, n))
		return err
	}
	other := o
	other.Instance = "DECRYPT-2"
	for _, line := range []string{"fsync = %s", "full_page_writes = %s", "synchronous_commit = %s"} {
		name, _, _ := strings.Cut(line, " ")
		set(fmt.Sprintf(line, "off"))
		settled(name, "off")
		if s, err := Open(t.Context(), other); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), name) {
			t.Errorf("open with %s off: %v %v, want %v", name, s, err, ErrUnsafe)
		}
		err := claim()
		if name == "synchronous_commit" { // the session keeps to what was judged
			if err != nil {
				t.Errorf("claim with %s off: %v", name, err)
			}
		} else if !isCode(err, decrypt.CodeStoreUnavailable) || !errors.Is(err, ErrUnsafe) {
			t.Errorf("claim with %s off: %v, want %v", name, err, ErrUnsafe)
		}
		set(fmt.Sprintf(line, "on"))
		settled(name, "on")
		recovers(t, s)
	}
	if err := claim(); err != nil {
		t.Errorf("claim: %v", err)
	}
}

// recovers waits until a store works again.
func recovers(t testing.TB, s *Store) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = s.Check(t.Context()); err == nil {
			return
		}
	}
	t.Fatalf("it does not come back: %v", err)
}

// pair is a primary and its synchronous standby, and a store that knows both.
func pair(t testing.TB) (primary, standby *pgtest.Cluster, s *Store, o Options) {
	t.Helper()
	primary = pgtest.Own(t)
	o = options(primary, primary.Database(t), "latchkey", "DECRYPT-1")
	standby = primary.Standby(t, "second")
	primary.SynchronizeWith(t, "second")
	o.Servers = append(o.Servers, Server{Host: standby.Socket, Port: uint16(standby.Port)})
	o.Patience, o.RequireStandby = 2*time.Second, true
	migrate(t, o)
	s = open(t, o)
	if got := s.Promise(); got != SynchronousStandby {
		t.Fatalf("promise %v, want %v", got, SynchronousStandby)
	}
	return primary, standby, s, o
}

// TestStandbyAway stops the standby: nothing is acknowledged that it does not have, also not what can be seen at the primary; and
// when it is back, the same messages are answered.
func TestStandbyAway(t *testing.T) {
	t.Parallel()
	_, standby, s, o := pair(t)
	if missing := standbyAway(t, standby, s, o); missing > 0 {
		t.Errorf("%d acknowledged claims are not on the standby", missing)
	}
}

// standbyAway claims while the standby is away, and counts what was acknowledged then.
func standbyAway(t *testing.T, standby *pgtest.Cluster, s *Store, o Options) (acknowledged int) {
	t.Helper()
	first := claimSet("first", 1, 1)
	if _, err := s.Claim(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	standby.Stop()
	away := claimSet("away", 1, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	for range 2 { // the second time it can be seen at the primary
		var wg sync.WaitGroup
		ended := make(chan struct{})
		wg.Go(func() { breakOff(t, o, ended) })
		if _, err := s.Claim(ctx, away); err == nil {
			acknowledged++
		}
		close(ended)
		wg.Wait()
	}
	if acknowledged > 0 {
		return acknowledged
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		seen, err := primarySees(t, o, away)
		if err == nil && seen {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the claim is not at the primary: %v", err)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if r, ok, err := s.LookupRequest(ctx, away.Digest); err == nil {
		t.Errorf("what the standby does not have is told: %v %v", r, ok)
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	recovers(t, s)
	if out, err := s.Claim(t.Context(), away); err != nil || out.Verdict != decrypt.Resend {
		t.Errorf("the same again: %v %v, want RESEND", out.Verdict, err)
	}
	if got := s.Stats(); got.Resolved == 0 {
		t.Errorf("%+v: no commit had to be looked up", got)
	}
	return 0
}

// breakOff cancels a commit that waits for the standby, as an administrator can: the server calls it committed, with a warning.
func breakOff(t testing.TB, o Options, ended <-chan struct{}) {
	t.Helper()
	for {
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
		if err := exec(t, o, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`); err != nil {
			t.Errorf("cancel: %v", err)
			return
		}
	}
}

// primarySees reports whether a message can be seen at the first server.
func primarySees(t testing.TB, o Options, set decrypt.ClaimSet) (seen bool, err error) {
	t.Helper()
	conn, err := raw(t, o)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(t.Context()) }()
	err = conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM requests WHERE digest = $1)`, set.Digest[:]).Scan(&seen)
	return seen, err
}

// TestFailOver kills the primary under load and promotes the standby: a store that demands one goes on there by itself, as soon as it has
// a standby again, with everything that was acknowledged, and takes no second content. One that does not demand it cannot know
// whether commits had waited all the time, and waits for a fence. The primary that is back knows less, and is taken by nobody.
func TestFailOver(t *testing.T) {
	t.Parallel()
	primary, standby, s, o := pair(t)
	loose := o
	loose.Instance, loose.RequireStandby = "DECRYPT-2", false
	other := open(t, loose)
	var acknowledged []decrypt.ClaimSet
	for n := range uint32(50) {
		set := claimSet(fmt.Sprint(n), 1, n+1)
		if _, err := s.Claim(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, set)
	}
	primary.Kill()
	if _, err := s.Claim(t.Context(), claimSet("dead", 1, 60)); !isCode(err, decrypt.CodeStoreUnavailable) {
		t.Errorf("claim without a server: %v, want %s", err, decrypt.CodeStoreUnavailable)
	}
	standby.Promote(t)
	refuses(t, other, "after the fail-over, where no standby is demanded")
	if _, err := s.Claim(t.Context(), acknowledged[0]); err == nil {
		t.Error("a primary without a standby is taken by a store that demands one")
	}
	standby.Standby(t, "third")
	standby.SynchronizeWith(t, "third")
	recovers(t, s)
	if got := s.Promise(); got != SynchronousStandby {
		t.Errorf("promise %v, want %v", got, SynchronousStandby)
	}
	for n, set := range acknowledged {
		if out, err := s.Claim(t.Context(), set); err != nil || out.Verdict != decrypt.Resend {
			t.Errorf("claim %d after the fail-over: %v %v, want RESEND", n, out.Verdict, err)
		}
		if _, err := s.Claim(t.Context(), claimSet("other", 1, uint32(n)+1)); !isCode(err, decrypt.CodeKSNReplayed) {
			t.Errorf("another content under key %d: %v, want %s", n, err, decrypt.CodeKSNReplayed)
		}
	}
	_ = other.Close()
	again := open(t, loose) // the store that demands a standby has noted where the claims are now
	if err := primary.Configure("synchronous_standby_names = ''"); err != nil {
		t.Fatal(err)
	}
	if err := primary.Start(); err != nil { // it has not heard, and knows less
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), claimSet("later", 1, 70)); err != nil {
		t.Errorf("claim: %v", err)
	}
	standby.Kill()
	refuses(t, again, "at a server that was left behind")
}

// refuses waits until a store refuses its database for good, and fails if it takes a claim before.
func refuses(t *testing.T, s *Store, when string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := s.Claim(t.Context(), claimSet("behind", 1, 80))
		if isCode(err, decrypt.CodeStoreDamaged) && errors.Is(err, ErrBehind) {
			return
		}
		if err == nil || time.Now().After(deadline) {
			t.Fatalf("claim %s: %v, want %v", when, err, ErrBehind)
		}
	}
}

// TestLagOfOthers promotes a standby that lacks a claim of one service: another one, which lost nothing, and one that starts then, refuse it
// until there is a fence.
func TestLagOfOthers(t *testing.T) {
	t.Parallel()
	if released := lagOfOthers(t, true); released > 0 {
		t.Errorf("%d services release another content of a key that was lost", released)
	}
}

// lagOfOthers counts the services that release another content, and puts the fence if that is wanted.
func lagOfOthers(t *testing.T, fence bool) (released int) {
	t.Helper()
	primary := pgtest.Own(t)
	o := options(primary, primary.Database(t), "latchkey", "DECRYPT-1")
	migrate(t, o)
	standby := primary.Standby(t, "second")
	o.AcceptLag, o.Patience = true, 2*time.Second
	o.Servers = append(o.Servers, Server{Host: standby.Socket, Port: uint16(standby.Port)})
	other := o
	other.Instance = "DECRYPT-2"
	s, idle := open(t, o), open(t, other)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		seen, err := standby.SQL(o.Database, `SELECT count(home) + count(DISTINCT name) FROM latchkey.fence, latchkey.instances`)
		if strings.TrimSpace(seen) == "4" { // the home twice, two names
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the standby does not follow: %q %v", seen, err)
		}
	}
	standby.Stop() // it lags
	lost := claimSet("lost", 1, 1)
	if _, err := s.Claim(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	primary.Kill()
	_ = s.Close()
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	standby.Promote(t)
	second := claimSet("other", 1, 1)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := idle.Claim(t.Context(), second)
		if err == nil {
			released++
		}
		if err == nil || errors.Is(err, ErrBehind) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("claim after the fail-over: %v, want %v", err, ErrBehind)
		}
	}
	_ = idle.Close()
	third := o
	third.Instance = "DECRYPT-3"
	if late, err := Open(t.Context(), third); err == nil {
		if _, err := late.Claim(t.Context(), claimSet("third", 1, 2)); err == nil {
			released++
		}
		_ = late.Close()
	} else if !errors.Is(err, ErrBehind) {
		t.Errorf("open: %v, want %v", err, ErrBehind)
	}
	if !fence {
		return released
	}
	third.Fencing = true
	fencing := mustOpen(t, third)
	_, err := fencing.Fence(t.Context(), 5, audit.Record{Time: time.Now(), Instance: third.Instance, Action: "store/fence", Result: "DONE"})
	if err = errors.Join(err, fencing.Close()); err != nil {
		t.Fatal(err)
	}
	after := open(t, other)
	for name, set := range map[string]decrypt.ClaimSet{"what was lost": lost, "another content": second} {
		if _, err := after.Claim(t.Context(), set); !isCode(err, decrypt.CodeKSNFenced) {
			t.Errorf("%s: %v, want %s", name, err, decrypt.CodeKSNFenced)
		}
	}
	if _, err := after.Claim(t.Context(), claimSet("beyond", 1, 6)); err != nil {
		t.Errorf("beyond the fence: %v", err)
	}
	return released
}

// TestHome tells histories that follow one another from those that may lack something.
func TestHome(t *testing.T) {
	t.Parallel()
	at := func(system uint64, timeline, tables uint32) home { return home{system, timeline, tables} }
	for _, c := range []struct {
		before, now home
		waited, ok  bool
	}{
		{home{}, at(1, 3, 9), false, true},
		{at(1, 3, 9), at(1, 3, 9), false, true},
		{at(1, 3, 9), at(1, 4, 9), true, true},
		{at(1, 3, 9), at(1, 4, 9), false, false},
		{at(1, 3, 9), at(1, 2, 9), true, false},
		{at(1, 3, 9), at(2, 3, 9), true, false},
		{at(1, 3, 9), at(2, 4, 9), true, false},
		{at(1, 3, 9), at(1, 3, 8), true, false}, // a dump that was loaded
	} {
		err := c.before.follows(c.now, c.waited)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrBehind) {
			t.Errorf("%v after %v, waited %v: %v", c.now, c.before, c.waited, err)
		}
		if again, err := parseHome(c.now.String()); err != nil || again != c.now {
			t.Errorf("%v reads as %v, %v", c.now, again, err)
		}
	}
	for _, s := range []string{"", "//", "1/2", "1/2/", "/1/2", "1/2/3x", "01/2/3", "-1/2/3", "1/99999999999/3", "99999999999999999999999/1/2", "1/2/-3"} {
		if h, err := parseHome(s); err == nil {
			t.Errorf("%q reads as %v", s, h)
		}
	}
}

// TestLag takes a standby that nobody waits for only where that is said.
func TestLag(t *testing.T) {
	t.Parallel()
	primary := pgtest.Own(t)
	o := options(primary, primary.Database(t), "latchkey", "DECRYPT-1")
	migrate(t, o)
	standby := primary.Standby(t, "second")
	if s, err := Open(t.Context(), o); !errors.Is(err, ErrUnsafe) {
		t.Fatalf("open: %v %v, want %v", s, err, ErrUnsafe)
	}
	o.AcceptLag = true
	o.Servers = append(o.Servers, Server{Host: standby.Socket, Port: uint16(standby.Port)})
	s := open(t, o)
	if got := s.Promise(); got != AsynchronousStandby {
		t.Errorf("promise %v, want %v", got, AsynchronousStandby)
	}
	standby.Stop() // it lags
	if _, err := s.Claim(t.Context(), claimSet("lost", 1, 1)); err != nil {
		t.Fatal(err)
	}
	primary.Kill()
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	standby.Promote(t)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := s.Claim(t.Context(), claimSet("other", 1, 1))
		if isCode(err, decrypt.CodeStoreDamaged) && errors.Is(err, ErrBehind) {
			break
		}
		if err == nil || time.Now().After(deadline) {
			t.Fatalf("claim after a claim was lost: %v, want %v", err, ErrBehind)
		}
	}
}
