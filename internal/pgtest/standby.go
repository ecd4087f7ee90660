package pgtest

import (
	"fmt"
	"testing"
	"time"
)

// Standby makes a copy of the cluster that follows it, on a port of its own, and returns when it does. Its name is what
// synchronous_standby_names may say; SynchronizeWith says it.
func (c *Cluster) Standby(tb testing.TB, name string) *Cluster {
	tb.Helper()
	s, err := fresh(tb)
	if err != nil {
		tb.Fatal(err)
	}
	err = s.run("pg_basebackup", "--pgdata", s.data, "--checkpoint=fast", "--no-sync", "--wal-method=stream", "--write-recovery-conf",
		"--host", c.Socket, "--port", fmt.Sprint(c.Port), "--username", Superuser)
	if err == nil {
		err = s.Configure(
			fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=%s application_name=%s'", c.Socket, c.Port, Superuser, name),
			"synchronous_standby_names = ''", "wal_retrieve_retry_interval = 200ms")
	}
	if err == nil {
		err = s.launch()
	}
	if err != nil {
		tb.Fatal(err)
	}
	s.Password, s.PasswordFile = c.Password, c.PasswordFile
	c.await(tb, name, "streaming", `state`)
	return s
}

// SynchronizeWith has the cluster wait, at each commit, until the standby of that name has it on its disk.
func (c *Cluster) SynchronizeWith(tb testing.TB, name string) {
	tb.Helper()
	if err := c.Configure(fmt.Sprintf("synchronous_standby_names = '\"%s\"'", name)); err != nil {
		tb.Fatal(err)
	}
	c.Reload(tb)
	c.await(tb, name, "sync", `sync_state`)
}

// await waits until what the server says about a standby is so.
func (c *Cluster) await(tb testing.TB, name, want, column string) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for {
		got, err := c.SQL("postgres", fmt.Sprintf(`SELECT %s FROM pg_stat_replication WHERE application_name = '%s'`, column, name))
		if err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("standby %s: %s is %q %v, want %q\n%s", name, column, got, err, want, c.Log())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Promote makes a standby a primary of its own, which waits for nobody, and returns when it takes writes.
func (c *Cluster) Promote(tb testing.TB) {
	tb.Helper()
	c.Must(tb, "SELECT pg_promote(true, 60)")
}
