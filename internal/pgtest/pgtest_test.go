package pgtest

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Binary(m)) }

// TestShared has a database for each test in one cluster.
func TestShared(t *testing.T) {
	t.Parallel()
	c := Shared(t)
	a, b := c.Database(t), c.Database(t)
	for _, name := range []string{a, b} {
		if _, err := c.SQL(name, `CREATE TABLE t (n int); INSERT INTO t VALUES (1)`); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.SQL(a, `SELECT count(*), current_setting('fsync') FROM t`)
	if err != nil || got != "1|on" {
		t.Errorf("%q %v", got, err)
	}
	if c != Shared(t) {
		t.Error("another cluster")
	}
}

// TestKill ends a server with everything it has started, again and again: what was committed is there.
func TestKill(t *testing.T) {
	t.Parallel()
	c := Own(t)
	c.Must(t, `CREATE TABLE t (n int)`)
	for n := range 3 {
		c.Must(t, fmt.Sprintf(`INSERT INTO t VALUES (%d)`, n))
		c.Kill()
		if _, err := c.SQL("postgres", `SELECT 1`); err == nil {
			t.Error("it takes connections")
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if got := c.Must(t, `SELECT count(*) FROM t`); got != fmt.Sprint(n+1) {
			t.Errorf("%s rows after kill %d", got, n+1)
		}
	}
}

// TestFailOver kills a primary and promotes its standby, which has everything.
func TestFailOver(t *testing.T) {
	t.Parallel()
	primary := Own(t)
	primary.Must(t, `CREATE TABLE t (n int)`)
	standby := primary.Standby(t, "second")
	primary.SynchronizeWith(t, "second")
	primary.Must(t, `INSERT INTO t SELECT generate_series(1, 1000)`)
	primary.Kill()
	if _, err := standby.SQL("postgres", `INSERT INTO t VALUES (0)`); err == nil {
		t.Error("a standby takes writes")
	}
	standby.Promote(t)
	standby.Must(t, `INSERT INTO t VALUES (0)`)
	if got := standby.Must(t, `SELECT count(*) FROM t`); got != "1001" {
		t.Errorf("%s rows, want 1001", got)
	}
	third := standby.Standby(t, "third")
	standby.SynchronizeWith(t, "third")
	standby.Must(t, `INSERT INTO t VALUES (-1)`)
	if got := third.Must(t, `SELECT count(*) FROM t`); got != "1002" && got != "1001" { // written there, maybe not applied
		t.Errorf("%s rows, want 1002", got)
	}
}
