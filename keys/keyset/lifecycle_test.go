package keyset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	allKeyStates  = []KeyState{KeyPreActivation, KeyActive, KeySuspended, KeyDeactivated, KeyCompromised, KeyDestroyed}
	allOperations = []Operation{Deliver, Confirm, Protect, Process, Repeat}
)

// TestEveryStateAndOperation spells the table again, state by state: y where the operation is permitted, in the order
// deliver, confirm, protect, process, repeat.
func TestEveryStateAndOperation(t *testing.T) {
	t.Parallel()
	want := map[KeyState]string{
		KeyPreActivation: "-y---", KeyActive: "yyyyy", KeySuspended: "-y--y", KeyDeactivated: "-y-yy",
		KeyCompromised: "-----", KeyDestroyed: "-----", 0: "-----", 7: "-----", 255: "-----",
	}
	for state, row := range want {
		for i, o := range allOperations {
			if got := state.Permits(o); got != (row[i] == 'y') {
				t.Errorf("%v permits %v: %v", state, o, got)
			}
		}
		for _, o := range []Operation{0, 6, 255} {
			if state.Permits(o) {
				t.Errorf("%v permits %v", state, o)
			}
		}
	}
}

// TestStoredStates: what is stored says in which state keys are, and permits what that permits.
func TestStoredStates(t *testing.T) {
	t.Parallel()
	type stored interface {
		fmt.Stringer
		KeyState() KeyState
		Permits(Operation) bool
	}
	for s, want := range map[stored]KeyState{
		Active: KeyActive, Blocked: KeySuspended, Retired: KeyDestroyed, State(0): 0, State(4): 0,
		SlotPending: KeyPreActivation, SlotActive: KeyActive, SlotDraining: KeyDeactivated, SlotRetired: KeyDestroyed,
		SlotState(0): 0, SlotState(5): 0,
		StatusPending: KeyPreActivation, StatusActive: KeyActive, StatusBlocked: KeySuspended, StatusQuarantined: KeySuspended,
		StatusCompromised: KeyCompromised, StatusRevoked: KeyCompromised, StatusRetired: KeyDestroyed, Status(0): 0, Status(8): 0,
	} {
		if got := s.KeyState(); got != want {
			t.Errorf("%T %v is %v, want %v", s, s, got, want)
		}
		for _, o := range allOperations {
			if s.Permits(o) != want.Permits(o) {
				t.Errorf("%T %v permits %v: %v", s, s, o, s.Permits(o))
			}
		}
	}
	for name, n := range map[string][2]int{
		"sets": {len(stateWords), len(setKeyStates)}, "slots": {len(slotStateWords), len(slotKeyStates)},
		"terminals": {len(statusWords), len(statusKeyStates)}, "states": {len(keyStateWords), len(permitted)},
		"transitions": {len(keyStateWords), len(transitions)}, "order": {len(keyStateWords), len(strictness)},
		"purposes": {len(usageWords), len(usagePermits)},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d words, %d rows", name, n[0], n[1])
		}
	}
}

// TestEveryTransition spells figure 3 of SP 800-57 again: rows from, columns to, in the order of the constants.
func TestEveryTransition(t *testing.T) {
	t.Parallel()
	want := map[KeyState]string{
		KeyPreActivation: "-y--yy",
		KeyActive:        "--yyyy",
		KeySuspended:     "-y-yyy",
		KeyDeactivated:   "----yy",
		KeyCompromised:   "-----y",
		KeyDestroyed:     "------",
		0:                "------",
		7:                "------",
	}
	count := 0
	for from, row := range want {
		for i, to := range allKeyStates {
			ok := row[i] == 'y'
			if ok {
				count++
			}
			if got := from.CanBecome(to); got != ok {
				t.Errorf("from %v to %v: %v", from, to, got)
			}
			err := CheckTransition(from, to)
			if (err == nil) != ok || !ok && !errors.Is(err, ErrTransition) {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
			if !ok && !strings.Contains(err.Error(), fmt.Sprintf("from %v to %v", from, to)) {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
		}
		if from.CanBecome(0) || from.CanBecome(7) {
			t.Errorf("%v becomes what is no state", from)
		}
	}
	if count != 14 { // transitions 2 to 15 of the standard; the first is that a key is made
		t.Errorf("%d transitions", count)
	}
}

func TestTransitionsOfSetsAndSlots(t *testing.T) {
	t.Parallel()
	sets := map[State]string{Active: "yyy", Blocked: "yyy", Retired: "---", 0: "---", 4: "---"}
	for from, row := range sets {
		for i, to := range []State{Active, Blocked, Retired} {
			if got := from.CanBecome(to); got != (row[i] == 'y') {
				t.Errorf("set from %v to %v: %v", from, to, got)
			}
		}
		if from.CanBecome(0) || from.CanBecome(4) {
			t.Errorf("set in %v becomes what is no state", from)
		}
	}
	slots := map[SlotState]string{SlotPending: "yy-y", SlotActive: "-yyy", SlotDraining: "--yy", SlotRetired: "----", 0: "----", 5: "----"}
	for from, row := range slots {
		for i, to := range []SlotState{SlotPending, SlotActive, SlotDraining, SlotRetired} {
			if got := from.CanBecome(to); got != (row[i] == 'y') {
				t.Errorf("slot from %v to %v: %v", from, to, got)
			}
		}
	}
}

// TestSuccessorStates: a revision in another state follows exactly where the life cycle lets it.
func TestSuccessorStates(t *testing.T) {
	t.Parallel()
	for _, from := range []State{Active, Blocked, Retired} {
		for _, to := range []State{Active, Blocked, Retired} {
			s := aes(NewAESData(), "DATA-AES")
			s.State = from
			next := s.NextRevision()
			next.State = to
			err := CheckSuccessor(s, next)
			if (err == nil) != from.CanBecome(to) || err != nil && !errors.Is(err, ErrKeySet) {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
		}
	}
}

// TestStrictest: of several states it is the one that permits least, and it permits what all of them permit.
func TestStrictest(t *testing.T) {
	t.Parallel()
	for _, a := range allKeyStates {
		if Strictest(a) != a || Strictest(a, a) != a {
			t.Errorf("%v alone is %v", a, Strictest(a))
		}
		for _, b := range allKeyStates {
			got := Strictest(a, b)
			if got != Strictest(b, a) || got != a && got != b {
				t.Errorf("of %v and %v: %v", a, b, got)
			}
			for _, o := range allOperations {
				if got.Permits(o) != (a.Permits(o) && b.Permits(o)) {
					t.Errorf("of %v and %v, %v: %v permits it: %v", a, b, o, got, got.Permits(o))
				}
			}
		}
		if got := Strictest(a, 0); got != KeyDestroyed {
			t.Errorf("of %v and none: %v", a, got)
		}
	}
	if got := Strictest(KeyCompromised, KeyDestroyed); got != KeyDestroyed {
		t.Errorf("of compromised and destroyed: %v", got)
	}
	if got := Strictest(); got != KeyDestroyed {
		t.Errorf("of nothing: %v", got)
	}
}

// TestUsagePermits: in the order of allOperations. The host makes no PIN block for a terminal.
func TestUsagePermits(t *testing.T) {
	t.Parallel()
	for u, row := range map[Usage]string{UsagePIN: "y--yy", UsageData: "y-yyy", UsageMAC: "yyyyy", 0: "-----", 4: "-----"} {
		for i, o := range allOperations {
			if got := u.Permits(o); got != (row[i] == 'y') {
				t.Errorf("%v permits %v: %v", u, o, got)
			}
			for _, state := range []State{Active, Blocked, Retired, 0} {
				s := aes(NewAESPIN(), "PIN-AES") // PIN and MAC
				s.State = state
				want := row[i] == 'y' && (u == UsagePIN || u == UsageMAC) && state.Permits(o)
				if got := s.Permits(u, o); got != want {
					t.Errorf("%v set permits %v for %v: %v", state, o, u, got)
				}
			}
		}
	}
}

func TestLifeCycleWords(t *testing.T) {
	t.Parallel()
	var got []string
	for _, k := range append(slices.Clone(allKeyStates), 0) {
		got = append(got, k.String())
	}
	for _, o := range append(slices.Clone(allOperations), 0) {
		got = append(got, o.String())
	}
	want := "pre-activation active suspended deactivated compromised destroyed invalid(0) deliver confirm protect process repeat invalid(0)"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s", s)
	}
}

// rotating returns two sets that may stand for each other.
func rotating() (previous, next *KeySet) {
	previous, next = tdes(NewTDESPIN(), "PIN-1"), aes(NewAESPIN(), "PIN-2")
	fingerprint(next, "ffeeddccbbaa99887766554433221100")
	return previous, next
}

func TestNewRotation(t *testing.T) {
	t.Parallel()
	start := time.Unix(1767225600, 0)
	for _, c := range []struct {
		name   string
		change func(previous, next *KeySet, from, until *time.Time)
		ok     bool
	}{
		{"as it should be", func(*KeySet, *KeySet, *time.Time, *time.Time) {}, true},
		{"a longer overlap", func(_, _ *KeySet, _, until *time.Time) { *until = until.Add(time.Second) }, true},
		{"a second too short", func(_, _ *KeySet, _, until *time.Time) { *until = until.Add(-time.Second) }, false},
		{"the end first", func(_, _ *KeySet, from, until *time.Time) { *from, *until = *until, *from }, false},
		{"a shorter horizon", func(p, _ *KeySet, _, until *time.Time) { p.R, *until = time.Second, start.Add(time.Second) }, true},
		{"the horizon of the next one does not count", func(_, n *KeySet, _, _ *time.Time) { n.R *= 2 }, true},
		{"a part of a second at the start", func(_, _ *KeySet, from, _ *time.Time) { *from = from.Add(-time.Nanosecond) }, false},
		{"a part of a second at the end", func(_, _ *KeySet, _, until *time.Time) { *until = until.Add(time.Nanosecond) }, false},
		{"other tenants", func(_, n *KeySet, _, _ *time.Time) { n.Tenant = "OTHER" }, false},
		{"other environments", func(_, n *KeySet, _, _ *time.Time) { n.Environment, n.Delivery = Production, Attested }, false},
		{"the same set", func(p, n *KeySet, _, _ *time.Time) { *n = *p }, false},
		{"one base key, other key ids", func(p, n *KeySet, _, _ *time.Time) {
			*n = *p.Clone()
			n.ID, n.FirstID, n.LastID = "PIN-2", keyID("FFFF9876543300000000"), keyID("FFFF987654330FE00000")
		}, true},
		{"key ids of one another", func(p, n *KeySet, _, _ *time.Time) { *n = *p.Clone(); n.ID = "PIN-2" }, false},
		{"other purposes", func(_, n *KeySet, _, _ *time.Time) {
			*n = *fingerprint(aes(NewAESData(), "D"), strings.Repeat("ab", 16))
		}, false},
		{"more purposes", func(_, n *KeySet, _, _ *time.Time) {
			*n = *fingerprint(aes(NewDefaults(n.Scheme, UsagePIN, UsageData, UsageMAC), "D"), strings.Repeat("ab", 16))
		}, true},
		{"a weaker key", func(p, n *KeySet, _, _ *time.Time) { *p, *n = *n, *p }, false},
		{"a blocked set", func(p, n *KeySet, _, _ *time.Time) { p.State, n.State = Blocked, Blocked }, true},
		{"the previous one retired", func(p, _ *KeySet, _, _ *time.Time) { p.State = Retired }, false},
		{"the next one retired", func(_, n *KeySet, _, _ *time.Time) { n.State = Retired }, false},
		{"a previous one without a name", func(p, _ *KeySet, _, _ *time.Time) { p.ID = "" }, false},
		{"a next one without a name", func(_, n *KeySet, _, _ *time.Time) { n.ID = "" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			previous, next := rotating()
			from, until := start, start.Add(previous.R)
			c.change(previous, next, &from, &until)
			r, err := NewRotation(previous, next, from, until)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrKeySet) {
				t.Fatalf("%v", err)
			}
			if set, ok := r.Delivering(from); ok != c.ok && previous.State == Active {
				t.Errorf("new keys come of %v, %v", set, ok)
			}
		})
	}
}

// TestRotation walks through a rotation, with the sets in each of their own states.
func TestRotation(t *testing.T) {
	t.Parallel()
	start := time.Unix(1767225600, 0)
	previous, next := rotating()
	end := start.Add(previous.R)
	r, err := NewRotation(previous, next, start, end)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name               string
		at                 time.Time
		ownP, ownN         State
		previous, next     KeyState
		delivers           *KeySet
		permitted          bool
		processes, process bool // of the previous and of the next one
	}{
		{"long before", time.Time{}, Active, Active, KeyActive, KeyPreActivation, previous, true, true, false},
		{"just before", start.Add(-time.Nanosecond), Active, Active, KeyActive, KeyPreActivation, previous, true, true, false},
		{"at the start", start, Active, Active, KeyDeactivated, KeyActive, next, true, true, true},
		{"in the overlap", start.Add(time.Hour), Active, Active, KeyDeactivated, KeyActive, next, true, true, true},
		{"just before the end", end.Add(-time.Nanosecond), Active, Active, KeyDeactivated, KeyActive, next, true, true, true},
		{"at the end", end, Active, Active, KeyDestroyed, KeyActive, next, true, false, true},
		{"long after", end.Add(1e6 * time.Hour), Active, Active, KeyDestroyed, KeyActive, next, true, false, true},
		{"before, and blocked", time.Time{}, Blocked, Active, KeySuspended, KeyPreActivation, previous, false, false, false},
		{"in the overlap, both blocked", start, Blocked, Blocked, KeySuspended, KeySuspended, next, false, false, false},
		{"in the overlap, one retired early", start, Retired, Active, KeyDestroyed, KeyActive, next, true, false, true},
		{"in the overlap, the next one retired", start, Active, Retired, KeyDeactivated, KeyDestroyed, next, false, true, false},
	} {
		previous.State, next.State = c.ownP, c.ownN
		p, n := r.KeyStates(c.at)
		if p != c.previous || n != c.next {
			t.Errorf("%s: %v and %v, want %v and %v", c.name, p, n, c.previous, c.next)
		}
		if p.Permits(Process) != c.processes || n.Permits(Process) != c.process {
			t.Errorf("%s: processing %v and %v", c.name, p.Permits(Process), n.Permits(Process))
		}
		set, ok := r.Delivering(c.at)
		if set != c.delivers || ok != c.permitted {
			t.Errorf("%s: new keys come of %s, %v", c.name, set.ID, ok)
		}
	}
	if p, n := (Rotation{}).KeyStates(start); p != KeyDestroyed || n != KeyDestroyed {
		t.Errorf("no rotation: %v and %v", p, n)
	}
	if set, ok := (Rotation{}).Delivering(start); set != nil || ok {
		t.Errorf("no rotation delivers keys of %v", set)
	}
}
