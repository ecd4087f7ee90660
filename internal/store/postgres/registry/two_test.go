package registry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func record(s string) audit.Record {
	return audit.Record{Time: noon, Instance: "ra", Action: "count", Object: s, Result: "DONE"}
}

// count is a transaction that is lost where two run at once: it reads a number, and writes the next one.
func count(s *Store, t *testing.T, name string) error {
	return s.Update(t.Context(), func(tx provision.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		m.Tenant, m.Epoch, m.Objects = "SHOP", 1, m.Objects+1
		r := provision.FeedRecord{Epoch: 1, Sequence: m.Objects, Object: name, Envelope: []byte(name)}
		return errors.Join(tx.PutMeta(m), tx.AppendFeed(r), tx.Audit(record(name)))
	})
}

// TestLockTaken has one service keep the others out for long: calls of another that wait together fail together, and not one after
// the other.
func TestLockTaken(t *testing.T) {
	t.Parallel()
	first := folders.Options(t, t.TempDir())
	second := first
	first.Patience = time.Minute
	second.Instance, second.Patience = "TWO", time.Second
	holder, waiter := open(t, first), open(t, second)
	defer func() { _, _ = holder.Close(), waiter.Close() }()
	entered, leave := make(chan struct{}), make(chan struct{})
	var holding, all sync.WaitGroup
	holding.Go(func() {
		var once sync.Once
		_ = holder.Update(t.Context(), func(provision.Tx) error { // it may take too long
			once.Do(func() { close(entered) })
			<-leave
			return nil
		})
	})
	<-entered
	const calls = 20
	before := waiter.Stats().Statements
	for n := range calls {
		all.Go(func() {
			if err := count(waiter, t, fmt.Sprint(n)); !unavailable(err) {
				t.Errorf("call %d: %v", n, err)
			}
		})
	}
	all.Wait()
	if n := waiter.Stats().Statements - before; n > 3*calls/2 { // three for each attempt to enter
		t.Errorf("%d statements for %d calls", n, calls)
	}
	close(leave)
	holding.Wait()
	if err := eventually(func() error { return count(waiter, t, "last") }); err != nil {
		t.Error(err)
	}
}

// TestTwoServices has two services write at once, while their connections are cut: nothing is lost, nothing is there twice, and
// each has its own audit log.
func TestTwoServices(t *testing.T) {
	t.Parallel()
	first := folders.Options(t, t.TempDir())
	second := first
	second.Instance = "TWO"
	options := []postgres.Options{first, second}
	stores := make([]*Store, len(options))
	for i, o := range options {
		stores[i] = open(t, o)
		defer func() { _ = stores[i].Close() }()
	}
	if _, err := Open(t.Context(), second); !errors.Is(err, postgres.ErrLocked) {
		t.Errorf("a second process of one instance: %v", err)
	}
	const each = 40
	var all sync.WaitGroup
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	for i, s := range stores {
		for n := range each {
			all.Go(func() {
				name := fmt.Sprint(i, "-", n)
				err := count(s, t, name)
				mu.Lock()
				defer mu.Unlock()
				if acknowledged[name] = err == nil; err != nil && !unavailable(err) {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	for range 3 { // whatever they are at
		cut := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'latchkey TWO'`
		if _, err := pgtest.Shared(t).SQL(first.Database, cut); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond) // where exactly is chance
	}
	all.Wait()
	for i, s := range stores { // both come back
		if err := eventually(func() error { return count(s, t, fmt.Sprint(i, "-last")) }); err != nil {
			t.Fatal(err)
		}
		acknowledged[fmt.Sprint(i, "-last")] = true
	}
	made := make(map[string]bool)
	err := stores[0].View(t.Context(), func(tx provision.Tx) error {
		m, err := tx.Meta()
		records, err2 := tx.FeedAfter(1, 0, 10*each)
		for _, r := range records {
			if made[r.Object] {
				t.Errorf("%s is there twice", r.Object)
			}
			made[r.Object] = true
		}
		if m.Objects != uint64(len(records)) {
			t.Errorf("counted to %d, and there are %d records", m.Objects, len(records))
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range acknowledged {
		if ok && !made[name] {
			t.Errorf("%s was acknowledged, and is not there", name)
		}
	}
	logged := 0
	for i, o := range options {
		for n, r := range leaves(t, o) {
			logged++
			if r.Sequence != uint64(n)+1 || !strings.HasPrefix(r.Object, fmt.Sprint(i, "-")) || !made[r.Object] {
				t.Fatalf("record %d of %s: %+v", n+1, o.Instance, r)
			}
		}
	}
	if logged != len(made) {
		t.Errorf("%d audit records of %d transactions", logged, len(made))
	}
	if s := stores[1].Stats(); s.Connections < 2 {
		t.Errorf("the connection was never cut: %+v", s)
	}
}

func unavailable(err error) bool {
	r, ok := errors.AsType[*provision.Refusal](err)
	return ok && r.Code == provision.CodeStoreUnavailable
}

// eventually tries again while the database cannot be used.
func eventually(f func() error) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := f(); err == nil || !unavailable(err) || time.Now().After(deadline) {
			return err
		}
	}
}

// TestSchemaHolds tries what no code of ours does.
func TestSchemaHolds(t *testing.T) {
	t.Parallel()
	o := folders.Options(t, t.TempDir())
	s := open(t, o)
	defer func() { _ = s.Close() }()
	if err := count(s, t, "T-1"); err != nil {
		t.Fatal(err)
	}
	c := pgtest.Shared(t)
	sql := func(statement string) error {
		_, err := c.SQL(o.Database, "SET search_path TO "+o.Schema+"; "+statement)
		return err
	}
	for _, good := range []string{
		`INSERT INTO certificates (v, role, serial, terminal, issued, not_after, revoked, key_hash, body)
			VALUES (1, 'terminal', 'ab', 'T-1', 0, 1, 0, decode(repeat('00', 32), 'hex'), '')`,
		`INSERT INTO highest (key_set, v, key_id) VALUES ('PINS', 1, '\x1234567800000005')`,
		`UPDATE certificates SET revoked = 7`,
		`UPDATE highest SET key_id = '\x1234567800000006'`,
	} {
		if err := sql(good); err != nil {
			t.Fatalf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		`UPDATE certificates SET terminal = 'T-2'`, `UPDATE certificates SET serial = '99'`, `UPDATE certificates SET role = 'ra'`,
		`DELETE FROM certificates`,
		`INSERT INTO certificates (v, role, serial, terminal, issued, not_after, revoked, key_hash, body) SELECT v, role, serial, 'T-3', issued, not_after, revoked, key_hash, body FROM certificates`,
		`INSERT INTO feed SELECT epoch, sequence, v, 'T-3', envelope FROM feed`, `UPDATE feed SET envelope = ''`,
		`UPDATE highest SET key_id = '\x1234567800000005'`, `DELETE FROM highest`,
		`INSERT INTO meta (id, v, tenant, epoch, objects, signer, pepper) SELECT 2, v, tenant, epoch, objects, signer, pepper FROM meta`,
		`UPDATE instances SET batch = -1`,
	} {
		if err := sql(bad); err == nil {
			t.Errorf("done: %s", bad)
		}
	}
}
