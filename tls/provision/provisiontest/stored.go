package provisiontest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

func testMeta(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	view(t, s, func(tx provision.Tx) error {
		m, err := tx.Meta()
		same(t, "a new store", m, provision.Meta{})
		return err
	})
	for _, want := range []provision.Meta{
		{Tenant: "SHOP", Epoch: 1, Objects: 0, Signer: [32]byte{1}, Pepper: [32]byte{2}},
		{Tenant: "SHOP", Epoch: 1_772_000_000, Objects: 100_000, Signer: [32]byte{3}, Pepper: [32]byte{4}},
	} {
		update(t, s, func(tx provision.Tx) error { return tx.PutMeta(want) })
		view(t, s, func(tx provision.Tx) error {
			m, err := tx.Meta()
			same(t, "meta", m, want)
			return err
		})
	}
}

func testTerminals(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	names := []keyset.TerminalID{"T-10", "A", "T-9", "Z-1", "0"}
	for i, name := range names {
		update(t, s, func(tx provision.Tx) error { return tx.PutTerminal(terminal(name, i)) })
	}
	update(t, s, func(tx provision.Tx) error { return tx.PutTerminal(terminal("A", 77)) })
	bare := &provision.Terminal{Tenant: "SHOP", ID: "BARE", Status: keyset.StatusPending}
	update(t, s, func(tx provision.Tx) error { return tx.PutTerminal(bare) })
	view(t, s, func(tx provision.Tx) error {
		if got, ok, err := tx.Terminal("NOBODY"); ok || err != nil || got != nil {
			t.Errorf("an unknown terminal: %+v, %t, %v", got, ok, err)
		}
		got, ok, err := tx.Terminal("A")
		if !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		same(t, "replaced", got, terminal("A", 77))
		if got, ok, err = tx.Terminal("BARE"); !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		same(t, "bare", got, bare)
		for after, want := range map[keyset.TerminalID][]keyset.TerminalID{
			"": {"0", "A", "BARE", "T-10", "T-9", "Z-1"}, "A": {"BARE", "T-10", "T-9", "Z-1"}, "T-2": {"T-9", "Z-1"}, "Z-1": nil,
		} {
			all, err := terminalsAfter(tx, after)
			if err != nil {
				return err
			}
			var order []keyset.TerminalID
			for _, r := range all {
				order = append(order, r.ID)
			}
			same(t, "order after "+string(after), order, want)
		}
		stop := errors.New("enough")
		n := 0
		if err := tx.Terminals("", 0, func(*provision.Terminal) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
			t.Errorf("stopped with %v after %d", err, n)
		}
		for limit, want := range map[int]int{1: 1, 4: 4, 5: 4} {
			n := 0
			if err := tx.Terminals("A", limit, func(*provision.Terminal) error { n++; return nil }); err != nil || n != want {
				t.Errorf("limit %d: %d rows, want %d, %v", limit, n, want, err)
			}
		}
		_, err = terminalsAfter(tx, "") // also when one before has stopped
		return err
	})
	if err := s.Update(t.Context(), func(tx provision.Tx) error { return tx.PutTerminal(&provision.Terminal{ID: "x"}) }); err == nil {
		t.Error("a row that breaks the rules is stored")
	}
}

func terminalsAfter(tx provision.Tx, after keyset.TerminalID) ([]*provision.Terminal, error) {
	return collect(func(y func(*provision.Terminal) error) error { return tx.Terminals(after, 0, y) })
}

func issuedAfter(tx provision.Tx, name keyset.TerminalID, after string) ([]provision.Issuance, error) {
	return collect(func(y func(provision.Issuance) error) error { return tx.Certificates(name, after, 0, y) })
}

func testCodes(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	put := func(c *provision.OneTimeCode) {
		t.Helper()
		update(t, s, func(tx provision.Tx) error { return tx.PutOneTimeCode(c) })
	}
	put(code("T-1", provision.StateOpen, 10))
	put(code("T-2", provision.StateReserved, 20))
	put(code("T-3", provision.StateSpent, 5))
	put(code("T-4", provision.StateVoid, 5))
	put(code("T-5", provision.StateOpen, 21))
	view(t, s, func(tx provision.Tx) error {
		c, ok, err := tx.OneTimeCode("T-2")
		if !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		same(t, "code", c, code("T-2", provision.StateReserved, 20))
		if _, ok, err := tx.OneTimeCode("T-9"); ok || err != nil {
			t.Errorf("a code of nobody: %t, %v", ok, err)
		}
		for _, tc := range []struct {
			at, limit int
			want      []keyset.TerminalID
		}{{9, 9, nil}, {10, 9, []keyset.TerminalID{"T-1"}}, {20, 9, []keyset.TerminalID{"T-1", "T-2"}}, {100, 9, []keyset.TerminalID{"T-1", "T-2", "T-5"}}} {
			got, err := tx.OverdueCodes(at(tc.at).Unix(), tc.limit)
			if err != nil {
				return err
			}
			var names []keyset.TerminalID
			for _, c := range got {
				names = append(names, c.Terminal)
			}
			slices.Sort(names)
			same(t, fmt.Sprint("overdue at ", tc.at), names, tc.want)
		}
		got, err := tx.OverdueCodes(at(100).Unix(), 2)
		if len(got) != 2 {
			t.Errorf("%d overdue codes, want 2", len(got))
		}
		return err
	})
	put(code("T-1", provision.StateOpen, 99)) // a terminal has one
	view(t, s, func(tx provision.Tx) error {
		c, _, err := tx.OneTimeCode("T-1")
		same(t, "replaced", c, code("T-1", provision.StateOpen, 99))
		if got, err := tx.OverdueCodes(at(10).Unix(), 9); err != nil || len(got) != 0 {
			t.Errorf("the code before is still there: %v, %v", got, err)
		}
		return err
	})
}

func testCertificates(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	put := func(c *provision.Certificate) {
		t.Helper()
		update(t, s, func(tx provision.Tx) error { return tx.PutCertificate(c) })
	}
	put(certificate("T-2", identity.Terminal, 3))
	put(certificate("T-1", identity.Terminal, 2))
	put(certificate("T-1", identity.Terminal, 1))
	put(certificate("T-1", identity.Agreement, 1)) // another issuer may use the same number
	fails(t, s, "the serial number of another terminal", provision.ErrExists, func(tx provision.Tx) error {
		return tx.PutCertificate(certificate("T-2", identity.Terminal, 1))
	})
	revoked := certificate("T-1", identity.Terminal, 1)
	revoked.Revoked, revoked.Reason = at(500), 1
	put(revoked)
	view(t, s, func(tx provision.Tx) error {
		got, ok, err := tx.Certificate(identity.Terminal, serial(1))
		if !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		same(t, "certificate", got, revoked)
		if _, ok, err := tx.Certificate(identity.Agreement, serial(2)); ok || err != nil {
			t.Errorf("a serial number of another role: %t, %v", ok, err)
		}
		agreement := certificate("T-1", identity.Agreement, 1).Issuance()
		second, third := certificate("T-1", identity.Terminal, 2).Issuance(), certificate("T-2", identity.Terminal, 3).Issuance()
		for _, tc := range []struct {
			of    keyset.TerminalID
			after string
			want  []provision.Issuance
		}{
			{"", "", []provision.Issuance{agreement, revoked.Issuance(), second, third}}, // replaced, and still in its place
			{"T-1", "", []provision.Issuance{agreement, revoked.Issuance(), second}},
			{"T-2", "", []provision.Issuance{third}},
			{"T-9", "", nil},
			{"", serial(2), []provision.Issuance{third}},
			{"", serial(1), []provision.Issuance{second, third}}, // two share it
			{"T-1", serial(1), []provision.Issuance{second}},
			{"T-2", serial(1), []provision.Issuance{third}}, // behind one of another terminal
			{"", serial(3), nil},
			{"", serial(99), nil},
		} {
			got, err := issuedAfter(tx, tc.of, tc.after)
			if err != nil {
				return err
			}
			same(t, fmt.Sprintf("issued to %q behind %q", tc.of, tc.after), got, tc.want)
		}
		for _, tc := range []struct {
			key  byte
			unix time.Time
			want []provision.Issuance
		}{
			{1, at(3600), []provision.Issuance{revoked.Issuance(), agreement}}, {1, at(3601), nil}, {2, at(3601), []provision.Issuance{second}}, {9, noon, nil},
		} {
			var got []provision.Issuance
			err := tx.CertificatesOfKey(provision.KeyHash{6, tc.key}, tc.unix.Unix(), func(i provision.Issuance) error {
				got = append(got, i)
				return nil
			})
			if err != nil {
				return err
			}
			slices.SortFunc(got, func(a, b provision.Issuance) int { return -cmp.Compare(a.Role, b.Role) })
			same(t, fmt.Sprintf("of key %d after %v", tc.key, tc.unix), got, tc.want)
		}
		stop := errors.New("enough")
		if err := tx.CertificatesOfKey(provision.KeyHash{6, 1}, 0, func(provision.Issuance) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("stopped with %v", err)
		}
		all, err := issuedAfter(tx, "", "")
		if err != nil {
			return err
		}
		for limit := range len(all) + 2 {
			var got []provision.Issuance
			err := tx.Certificates("", "", limit, func(i provision.Issuance) error { got = append(got, i); return nil })
			if err != nil {
				return err
			}
			if limit == 0 {
				limit = len(all)
			}
			same(t, "at most some", got, all[:min(limit, len(all))])
		}
		if err := tx.Certificates("", "", 0, func(provision.Issuance) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("stopped with %v", err)
		}
		return nil
	})
}

func testApprovals(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	for _, n := range []int{3, 1, 2} {
		update(t, s, func(tx provision.Tx) error { return tx.PutApproval(approval(n)) })
	}
	waiting := approval(2)
	waiting.Approver, waiting.Approved = identity.Identity{}, time.Time{}
	update(t, s, func(tx provision.Tx) error { return tx.PutApproval(waiting) })
	view(t, s, func(tx provision.Tx) error {
		got, ok, err := tx.Approval(id(2))
		if !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		same(t, "approval", got, waiting)
		if _, ok, err := tx.Approval(id(9)); ok || err != nil {
			t.Errorf("an unknown approval: %t, %v", ok, err)
		}
		all, err := collect(tx.Approvals)
		same(t, "order", all, []*provision.Approval{approval(1), waiting, approval(3)})
		return err
	})
	update(t, s, func(tx provision.Tx) error {
		n, err := tx.PruneApprovals(at(2).Unix())
		if n != 1 {
			t.Errorf("%d pruned, want 1", n)
		}
		return err
	})
	view(t, s, func(tx provision.Tx) error {
		all, err := collect(tx.Approvals)
		same(t, "after pruning", all, []*provision.Approval{waiting, approval(3)})
		return err
	})
}

func testHighest(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	for _, family := range []int{0, 1} {
		for _, step := range []struct{ raise, want int }{{2, 2}, {1, 2}, {2, 2}, {3, 3}, {1, 3}} {
			update(t, s, func(tx provision.Tx) error { return tx.RaiseHighest(setOf(family), keyID(family, step.raise)) })
			view(t, s, func(tx provision.Tx) error {
				got, err := tx.Highest(setOf(family))
				same(t, fmt.Sprint("highest after ", step.raise), got, keyID(family, step.want))
				return err
			})
		}
	}
	view(t, s, func(tx provision.Tx) error {
		got, err := tx.Highest("OTHER")
		same(t, "highest of an unused set", got, dukpt.KeyID{})
		return err
	})
}

func feedRecord(epoch, sequence uint64, object string) provision.FeedRecord {
	return provision.FeedRecord{Epoch: epoch, Sequence: sequence, Object: object, Envelope: fmt.Appendf(nil, "%d/%d/%s", epoch, sequence, object)}
}

func testFeed(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	objects := []string{"A", "B", "A", "C", "B"}
	for i, o := range objects {
		update(t, s, func(tx provision.Tx) error { return tx.AppendFeed(feedRecord(5, uint64(i+1), o)) })
	}
	update(t, s, func(tx provision.Tx) error { return tx.AppendFeed(feedRecord(4, 1, "OLD")) })
	fails(t, s, "the same place twice", provision.ErrExists, func(tx provision.Tx) error { return tx.AppendFeed(feedRecord(5, 3, "D")) })
	view(t, s, func(tx provision.Tx) error {
		head, ok, err := tx.FeedHead(5)
		if !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
		same(t, "head", head, feedRecord(5, 5, "B"))
		if _, ok, err := tx.FeedHead(6); ok || err != nil {
			t.Errorf("head of an epoch that has not begun: %t, %v", ok, err)
		}
		after, err := tx.FeedAfter(5, 3, 10)
		same(t, "after 3", after, []provision.FeedRecord{feedRecord(5, 4, "C"), feedRecord(5, 5, "B")})
		if err != nil {
			return err
		}
		after, err = tx.FeedAfter(5, 0, 2)
		same(t, "two", after, []provision.FeedRecord{feedRecord(5, 1, "A"), feedRecord(5, 2, "B")})
		if none, err := tx.FeedAfter(5, 5, 10); err != nil || len(none) != 0 {
			t.Errorf("after the head: %v, %v", none, err)
		}
		if err != nil {
			return err
		}
		return latest(t, tx, 5, feedRecord(5, 3, "A"), feedRecord(5, 4, "C"), feedRecord(5, 5, "B"))
	})
	update(t, s, func(tx provision.Tx) error {
		n, err := tx.PruneFeed(5, 4) // 1 and 2 of this epoch, and the epoch before
		if n != 3 {
			t.Errorf("%d pruned, want 3", n)
		}
		return err
	})
	view(t, s, func(tx provision.Tx) error {
		after, err := tx.FeedAfter(5, 0, 10)
		if err != nil {
			return err
		}
		same(t, "after pruning", after, []provision.FeedRecord{feedRecord(5, 3, "A"), feedRecord(5, 4, "C"), feedRecord(5, 5, "B")})
		if _, ok, err := tx.FeedHead(4); ok || err != nil {
			t.Errorf("the epoch before: %t, %v", ok, err)
		}
		return latest(t, tx, 5, after...)
	})
}

func latest(t *testing.T, tx provision.Tx, epoch uint64, want ...provision.FeedRecord) error {
	t.Helper()
	got, err := collect(func(y func(provision.FeedRecord) error) error { return tx.FeedLatest(epoch, y) })
	same(t, "latest", got, want)
	return err
}

func testTasks(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	orphans := &provision.Task{
		ID: id(6), Kind: provision.TaskOrphans, Terminal: "T-3", Key: provision.KeyHash{7}, Instance: "RA-2", Created: noon, Due: at(20),
	}
	settle := &provision.Task{ID: id(4), Kind: provision.TaskSettle, Terminal: "T-2", Body: []byte{1, 2}, Created: noon, Due: at(2)}
	update(t, s, func(tx provision.Tx) error {
		return errors.Join(tx.PutTask(task(1, 3)), tx.PutTask(task(3, 1)), tx.PutTask(settle), tx.PutTask(task(2, 2)), tx.PutTask(task(5, 9)),
			tx.PutTask(orphans))
	})
	behind := func(after provision.TaskPlace, when, limit int, want ...*provision.Task) {
		t.Helper()
		view(t, s, func(tx provision.Tx) error {
			got, err := tx.Tasks(at(when).Unix(), after, limit)
			if len(want) != 0 || len(got) != 0 {
				same(t, fmt.Sprint("due at ", when, " after ", after), got, want)
			}
			return err
		})
	}
	due := func(when, limit int, want ...*provision.Task) {
		t.Helper()
		behind(provision.TaskPlace{}, when, limit, want...)
	}
	due(0, 9)
	due(2, 9, task(3, 1), task(2, 2), settle)
	due(8, 2, task(3, 1), task(2, 2))
	behind(task(3, 1).Place(), 8, 2, task(2, 2), settle)
	behind(task(2, 2).Place(), 8, 9, settle, task(1, 3)) // due with the one after which it stands
	behind(task(1, 3).Place(), 8, 9)
	behind(provision.TaskPlace{Due: at(2).Unix(), ID: id(3)}, 8, 9, settle, task(1, 3)) // where there is none
	update(t, s, func(tx provision.Tx) error {
		return errors.Join(tx.PutTask(task(3, 7)), tx.DeleteTask(id(2)), tx.DeleteTask(id(2)), tx.DeleteTask(id(77)))
	})
	due(8, 9, settle, task(1, 3), task(3, 7))
	view(t, s, func(tx provision.Tx) error {
		for _, want := range []*provision.Task{orphans, task(3, 7)} {
			got, ok, err := tx.Task(want.ID)
			if err != nil || !ok {
				t.Errorf("task %s: %t, %v", want.ID, ok, err)
				continue
			}
			same(t, "task", got, want)
		}
		_, ok, err := tx.Task(id(2))
		if ok {
			t.Error("a task that was removed is there")
		}
		return err
	})
}
