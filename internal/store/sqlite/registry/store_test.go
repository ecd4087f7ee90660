package registry

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/sqlitetest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/provisiontest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	provisiontest.Run(t, provisiontest.Harness{
		Open:   func(t testing.TB, dir string) provision.Store { return openAt(t, filepath.Join(dir, "provisiond.db")) },
		Leaves: func(t testing.TB, s provision.Store) []audit.Record { return sqlitetest.Leaves(t, s.(*Store).db) },
	})
}

// TestSchemaHolds tries what no code of ours does.
func TestSchemaHolds(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	update(t, s, func(tx provision.Tx) error { return errors.Join(register(tx, 1), register(tx, 2)) })
	mustExec(t, s, `INSERT INTO highest (key_set, v, key_id) VALUES ('PINS', 1, x'1234567800000005')`)
	for _, c := range []struct {
		bad  string
		want error
	}{
		{`UPDATE certificates SET terminal = 'T-2' WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE certificates SET serial = '99' WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE certificates SET role = 'ra'`, sqlite.ErrUnavailable},
		{`DELETE FROM certificates`, sqlite.ErrUnavailable},
		{`INSERT INTO certificates SELECT 99, v, role, serial, 'T-3', issued, not_after, revoked, key_hash, body FROM certificates WHERE n = 1`, sqlite.ErrExists},
		{`INSERT OR REPLACE INTO certificates SELECT 99, v, role, serial, 'T-3', issued, not_after, revoked, key_hash, body FROM certificates WHERE n = 1`, sqlite.ErrUnavailable},
		{`INSERT INTO feed SELECT epoch, sequence, v, 'T-3', envelope FROM feed WHERE sequence = 1`, sqlite.ErrExists},
		{`UPDATE feed SET envelope = x'00'`, sqlite.ErrUnavailable},
		{`UPDATE feed SET sequence = -1`, sqlite.ErrUnavailable},
		{`UPDATE highest SET key_id = x'1234567800000004'`, sqlite.ErrUnavailable},
		{`DELETE FROM highest`, sqlite.ErrUnavailable},
		{`INSERT INTO codes (terminal, v, state, expires, body) VALUES ('T-1', 1, 'used', 0, x'00')`, sqlite.ErrUnavailable},
		{`INSERT INTO meta (id, v, tenant, epoch, objects, signer, pepper) VALUES (2, 1, 'SHOP', 0, 0, zeroblob(32), zeroblob(32))`, sqlite.ErrUnavailable},
		{`INSERT INTO terminals (id, v, body) VALUES ('T-1', 1, x'00')`, sqlite.ErrExists},
		{`UPDATE terminals SET v = 2`, sqlite.ErrUnavailable},
	} {
		if err := s.db.Update(t.Context(), func(tx *sqlite.Tx) error { return tx.Exec(c.bad) }); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.bad, err, c.want)
		}
	}
}

// TestOnce writes a serial number for another terminal and a sequence again.
func TestOnce(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	update(t, s, func(tx provision.Tx) error { return register(tx, 1) })
	other := certificate(1)
	other.Terminal = "T-2"
	for name, write := range map[string]func(provision.Tx) error{
		"the serial number of another terminal": func(tx provision.Tx) error { return tx.PutCertificate(other) },
		"a sequence again":                      func(tx provision.Tx) error { return tx.AppendFeed(feedRecord(1)) },
	} {
		if err := s.Update(t.Context(), write); !errors.Is(err, provision.ErrExists) {
			t.Errorf("%s: %v, want %v", name, err, provision.ErrExists)
		}
	}
	update(t, s, func(tx provision.Tx) error {
		other := certificate(1)
		other.Role, other.Terminal = identity.Agreement, "T-2" // of another issuer, which counts for itself
		return errors.Join(tx.PutCertificate(certificate(1)), tx.PutCertificate(other))
	})
}

// TestNumbersBeyond asks with numbers that no column can hold, as a peer may, and writes such.
func TestNumbersBeyond(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	update(t, s, func(tx provision.Tx) error { return register(tx, 1) })
	err := s.View(t.Context(), func(tx provision.Tx) error {
		after, err := tx.FeedAfter(7, math.MaxUint64, 10)
		if len(after) != 0 {
			t.Errorf("after the last possible sequence: %v", after)
		}
		other, err2 := tx.FeedAfter(math.MaxUint64, 0, 10)
		_, ok, err3 := tx.FeedHead(math.MaxUint64)
		if len(other) != 0 || ok {
			t.Errorf("of the last possible epoch: %v %v", other, ok)
		}
		return errors.Join(err, err2, err3)
	})
	if err != nil {
		t.Error(err)
	}
	for _, r := range []provision.FeedRecord{
		{Epoch: math.MaxUint64, Sequence: 1, Object: "T-1", Envelope: []byte{1}}, {Epoch: 7, Sequence: math.MaxUint64, Object: "T-1", Envelope: []byte{1}},
	} {
		if err := s.Update(t.Context(), func(tx provision.Tx) error { return tx.AppendFeed(r) }); err == nil {
			t.Errorf("record %d of epoch %d is stored", r.Sequence, r.Epoch)
		}
	}
}

// TestStrangeTask has a task that is none, and one that stands under the id of another, among good ones.
func TestStrangeTask(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	all := make([]*provision.Task, 4)
	for i := range all {
		all[i] = &provision.Task{
			ID: strings.Repeat(fmt.Sprint(i), 26), Kind: provision.TaskRevoke, Terminal: "T-1", Serial: serial(i + 1), Created: noon, Due: noon.Add(time.Second),
		}
	}
	update(t, s, func(tx provision.Tx) error {
		return errors.Join(tx.PutTask(all[0]), tx.PutTask(all[1]), tx.PutTask(all[2]), tx.PutTask(all[3]))
	})
	mustExec(t, s, `UPDATE tasks SET body = x'a0' WHERE id = ?`, all[1].ID)
	mustExec(t, s, `UPDATE tasks SET body = (SELECT body FROM tasks WHERE id = ?) WHERE id = ?`, all[0].ID, all[2].ID)
	for i := 1; i <= 2; i++ {
		all[i] = &provision.Task{ID: all[i].ID, Due: all[i].Due}
	}
	err := s.View(t.Context(), func(tx provision.Tx) error {
		got, err := tx.Tasks(noon.Add(time.Hour).Unix(), provision.TaskPlace{}, 9)
		if !reflect.DeepEqual(got, all) {
			t.Errorf("%+v, want %+v", got, all)
		}
		behind, err2 := tx.Tasks(noon.Add(time.Hour).Unix(), all[1].Place(), 1)
		if len(behind) != 1 || behind[0].ID != all[2].ID {
			t.Errorf("after one that cannot be read: %+v", behind)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFaults damages what is stored, fills the disk, and closes: the codes tell which it was, and their text tells nothing.
func TestFaults(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	update(t, s, func(tx provision.Tx) error { return register(tx, 1) })
	wants := func(what string, err error, code provision.Code) {
		t.Helper()
		if r, ok := errors.AsType[*provision.Refusal](err); !ok || r.Code != code || r.Detail != "" || r.Cause == nil {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	mustExec(t, s, `UPDATE terminals SET body = x'a0'`)
	wants("a row that is none", s.View(t.Context(), func(tx provision.Tx) error {
		_, _, err := tx.Terminal("T-1")
		return err
	}), provision.CodeStoreDamaged)
	wants("such a row among all", s.View(t.Context(), func(tx provision.Tx) error {
		return tx.Terminals("", 0, func(*provision.Terminal) error { return nil })
	}), provision.CodeStoreDamaged)
	mustExec(t, s, `PRAGMA max_page_count = 1`)
	var full error
	n := 2
	for ; full == nil && n < 1000; n++ {
		full = s.Update(t.Context(), func(tx provision.Tx) error { return register(tx, n) })
	}
	wants("a full disk", full, provision.CodeStoreFull)
	mustExec(t, s, `PRAGMA max_page_count = 1000000`)
	update(t, s, func(tx provision.Tx) error { return register(tx, n) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wants("closed", s.Check(t.Context()), provision.CodeStoreUnavailable)
}

// TestListsReadNoChains lists certificates of which nothing but the columns is there.
func TestListsReadNoChains(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	update(t, s, func(tx provision.Tx) error { return errors.Join(register(tx, 1), register(tx, 2)) })
	revoked := certificate(1)
	revoked.Revoked, revoked.Reason = noon, 9
	update(t, s, func(tx provision.Tx) error { return tx.PutCertificate(revoked) })
	mustExec(t, s, `UPDATE certificates SET body = x'a0'`)
	var got []provision.Issuance
	err := s.View(t.Context(), func(tx provision.Tx) error {
		return tx.Certificates("", "", 0, func(i provision.Issuance) error {
			got = append(got, i)
			return nil
		})
	})
	want := []provision.Issuance{certificate(2).Issuance(), revoked.Issuance()}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listed %+v, %v, want %+v", got, err, want)
	}
}

func TestOpenNewer(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	mustExec(t, s, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, 1)`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, sqlite.ErrNewer) {
		t.Errorf("open: %v, want %v", err, sqlite.ErrNewer)
	}
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	update(t, s, func(tx provision.Tx) error { return register(tx, 1) })
	sqlitetest.Verify(t, s, path, 1)
	if s.db.Stats().Commits == 0 {
		t.Error("no commits are counted")
	}
}
