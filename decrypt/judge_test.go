package decrypt_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

const (
	judgedW = 4096
	judgedJ = 10_000
)

// ensure panics on an error, for values that are constants.
func ensure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	judgedBase = ensure(keys.ParseFingerprint("000102030405060708090a0b0c0d0e0f"))
	judgedID   = ensure(dukpt.ParseKeyID("1234567890123456"))
)

func contentOf(name string) decrypt.Content { return sha256.Sum256([]byte(name)) }

func treatmentOf(format, key, resolved string) []byte {
	t := decrypt.Treatment{Operation: "translate-pin", ToFormat: format}
	if key != "" {
		t.OutgoingKey = ensure(keyset.ParseKeyRef("alias/" + key))
		t.Resolved = ensure(keyset.ParseKeyRef("alias/" + key + "/" + resolved))
	}
	return ensure(t.Encode())
}

// judged is an authenticated claim of the content "a" under the n-th key.
func judged(n uint32, p decrypt.Purpose, changes ...func(*decrypt.Claim)) decrypt.Claim {
	k := ensure(judgedID.AtOrdinal(n))
	c := decrypt.Claim{
		BaseKey: judgedBase, KSN: k, Purpose: p, Content: contentOf("a"), ClaimKeyVersion: 3, FillKeyVersion: 4,
		Treatment: treatmentOf("ISO_FORMAT_0", "zone", "v1"), Authenticated: true, MACKSN: k, MaxContents: 1,
		Windowed: true, W: judgedW, J: judgedJ,
	}
	for _, change := range changes {
		change(&c)
	}
	return c
}

func content(name string) func(*decrypt.Claim) {
	return func(c *decrypt.Claim) { c.Content = contentOf(name) }
}
func upTo(n int) func(*decrypt.Claim) { return func(c *decrypt.Claim) { c.MaxContents = n } }
func treated(b []byte) func(*decrypt.Claim) {
	return func(c *decrypt.Claim) { c.Treatment = b }
}
func unproven(c *decrypt.Claim)    { c.Authenticated, c.MACKSN = false, dukpt.KSN{} }
func claimedOnly(c *decrypt.Claim) { c.Windowed, c.W, c.J = false, 0, 0 }

// entry is what a claim of that content leaves behind.
func entry(name string, changes ...func(*decrypt.Entry)) decrypt.Entry {
	e := decrypt.Entry{
		Content: contentOf(name), ClaimKeyVersion: 1, FillKeyVersion: 2, Treatment: treatmentOf("ISO_FORMAT_0", "zone", "v1"),
		Authenticated: true, MACKSN: ensure(judgedID.AtOrdinal(1)),
	}
	for _, change := range changes {
		change(&e)
	}
	return e
}

func tried(n int) func(*decrypt.Entry) { return func(e *decrypt.Entry) { e.Tries = n } }
func bareEntry(e *decrypt.Entry)       { e.Authenticated, e.MACKSN = false, dukpt.KSN{} }
func reversedEntry(e *decrypt.Entry)   { e.ClosedBy = message.DigestOf([]byte("reversal")) }

// judgedHorizon is the horizon of claims that have one.
var judgedHorizon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func horizon(c *decrypt.Claim) { c.Horizon = judgedHorizon }

// seenAt is first seen that long after the horizon.
func seenAt(d time.Duration) func(*decrypt.Entry) {
	return func(e *decrypt.Entry) { e.FirstSeen = judgedHorizon.Add(d) }
}

// contents is a row with n different contents, none of them "a".
func contents(n int) []decrypt.Entry {
	var row []decrypt.Entry
	for i := range n {
		row = append(row, entry(fmt.Sprint("other ", i)))
	}
	return row
}

func TestJudge(t *testing.T) {
	t.Parallel()
	type state = decrypt.KeyIDState
	const pin, data, mac, signIn = decrypt.PurposePIN, decrypt.PurposeData, decrypt.PurposeMAC, decrypt.PurposeSignIn
	tombstone := decrypt.Entry{ClosedBy: message.DigestOf([]byte("reversal"))}
	spent := []decrypt.Range{{From: 10, To: 20}}
	fence := []decrypt.Range{{From: 51, To: 100}}
	otherKey, otherFormat := treatmentOf("ISO_FORMAT_0", "zone-2", "v1"), treatmentOf("ISO_FORMAT_4", "zone", "v1")
	for _, c := range []struct {
		name  string
		state state
		row   []decrypt.Entry
		claim decrypt.Claim
		want  string // verdict, or code of a refusal
		after state
	}{
		{"the first of all", state{}, nil, judged(1, mac), "FRESH", state{High: 1, Seen: 1}},
		{"no MAC: high stays", state{}, nil, judged(9, data, unproven), "FRESH", state{Seen: 9}},
		{"claimed only: high stays", state{}, nil, judged(9, data, claimedOnly), "FRESH", state{Seen: 9}},
		{"an older one", state{High: 9, Seen: 9}, nil, judged(5, mac), "FRESH", state{High: 9, Seen: 9}},

		// 1: reversed
		{"reversed", state{}, []decrypt.Entry{entry("a", reversedEntry)}, judged(1, mac), "Reversed", state{}},
		{"reversed before it came", state{}, []decrypt.Entry{tombstone}, judged(1, mac), "Reversed", state{}},
		{"reversed before spent", state{Spent: spent}, []decrypt.Entry{tombstone}, judged(15, mac), "Reversed", state{Spent: spent}},
		{"reversed before too old", state{Floor: 5}, []decrypt.Entry{tombstone}, judged(5, mac), "Reversed", state{Floor: 5}},
		{"another content where one is reversed", state{}, []decrypt.Entry{entry("b", reversedEntry)}, judged(1, mac), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},

		// 3: the same again
		{"the same again", state{High: 1, Seen: 1}, []decrypt.Entry{entry("a")}, judged(1, mac), "RESEND", state{High: 1, Seen: 1}},
		{"with another version of the key", state{}, []decrypt.Entry{entry("a")}, judged(1, pin, treated(treatmentOf("ISO_FORMAT_0", "zone", "v2"))), "RESEND", state{High: 1, Seen: 1}},
		{"one of several", state{}, append(contents(2), entry("a")), judged(1, data, upTo(3)), "RESEND", state{High: 1, Seen: 1}},
		{"one of more than now allowed", state{}, append(contents(2), entry("a")), judged(1, data, upTo(1)), "RESEND", state{High: 1, Seen: 1}},
		{"the last try", state{}, []decrypt.Entry{entry("a", tried(49))}, judged(1, mac), "RESEND", state{High: 1, Seen: 1}},
		{"one try too many", state{}, []decrypt.Entry{entry("a", tried(50))}, judged(1, mac), "ResendCapReached", state{}},
		{"again below the floor", state{High: 9000, Floor: 5000}, []decrypt.Entry{entry("a")}, judged(1, mac), "RESEND", state{High: 9000, Seen: 1, Floor: 5000}},
		{"again though spent", state{Spent: spent}, []decrypt.Entry{entry("a")}, judged(15, mac), "RESEND", state{High: 15, Seen: 15, Spent: spent}},
		{"again, proven now", state{Seen: 9000}, []decrypt.Entry{entry("a", bareEntry)}, judged(9000, mac), "RESEND", state{High: 9000, Seen: 9000, Floor: 9000 - judgedW}},

		// 2: older than the horizon
		{"first seen at the horizon", state{}, []decrypt.Entry{entry("a", seenAt(0))}, judged(1, mac, horizon), "RESEND", state{High: 1, Seen: 1}},
		{"first seen before the horizon", state{}, []decrypt.Entry{entry("a", seenAt(-time.Millisecond))}, judged(1, mac, horizon), "KsnSpent", state{}},
		{"another content before the horizon", state{}, []decrypt.Entry{entry("b", seenAt(-time.Millisecond))}, judged(1, mac, horizon), "KsnSpent", state{}},
		{"another content at the horizon", state{}, []decrypt.Entry{entry("b", seenAt(0))}, judged(1, mac, horizon), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},
		{"another treatment before the horizon", state{}, []decrypt.Entry{entry("a", seenAt(-time.Millisecond))}, judged(1, pin, treated(otherKey), horizon), "KsnSpent", state{}},
		{"more data before the horizon", state{}, []decrypt.Entry{entry("b", seenAt(-time.Millisecond))}, judged(1, data, upTo(8), horizon), "KsnSpent", state{}},
		{"more data at the horizon", state{}, []decrypt.Entry{entry("b", seenAt(0))}, judged(1, data, upTo(8), horizon), "FRESH", state{High: 1, Seen: 1}},
		{"a row is as old as its oldest", state{}, []decrypt.Entry{entry("b", seenAt(-time.Millisecond)), entry("a", seenAt(time.Hour))}, judged(1, data, upTo(8), horizon), "KsnSpent", state{}},
		{"tried too often before the horizon", state{}, []decrypt.Entry{entry("a", tried(50), seenAt(-time.Millisecond))}, judged(1, mac, horizon), "KsnSpent", state{}},
		{"reversed before the horizon", state{}, []decrypt.Entry{entry("a", reversedEntry, seenAt(-time.Millisecond))}, judged(1, mac, horizon), "Reversed", state{}},
		{"a tombstone before the horizon", state{}, []decrypt.Entry{tombstone}, judged(1, mac, horizon), "Reversed", state{}},
		{"an empty row has no age", state{}, nil, judged(1, mac, horizon), "FRESH", state{High: 1, Seen: 1}},
		{"a sign-in again before the horizon", state{}, []decrypt.Entry{entry("a", seenAt(-time.Millisecond))}, judged(1, signIn, upTo(8), horizon), "RESEND", state{High: 1, Seen: 1}},
		{"a sign-in before the horizon", state{}, []decrypt.Entry{entry("b", seenAt(-time.Millisecond))}, judged(1, signIn, upTo(8), horizon), "FRESH", state{High: 1, Seen: 1}},

		// 4: spent
		{"before the spent ones", state{Spent: spent}, nil, judged(9, mac), "FRESH", state{High: 9, Seen: 9, Spent: spent}},
		{"the first spent one", state{Spent: spent}, nil, judged(10, mac), "KsnSpent", state{Spent: spent}},
		{"the last spent one", state{Spent: spent}, nil, judged(20, mac), "KsnSpent", state{Spent: spent}},
		{"after the spent ones", state{Spent: spent}, nil, judged(21, mac), "FRESH", state{High: 21, Seen: 21, Spent: spent}},
		{"spent before treatment", state{Spent: spent}, []decrypt.Entry{entry("a")}, judged(15, pin, treated(otherKey)), "KsnSpent", state{Spent: spent}},
		{"spent before replayed", state{Spent: spent}, contents(1), judged(15, mac), "KsnSpent", state{Spent: spent}},
		{"spent before too old", state{Spent: spent, Floor: 30}, nil, judged(15, mac), "KsnSpent", state{Spent: spent, Floor: 30}},
		{"a sign-in on a spent one", state{Spent: spent}, nil, judged(15, signIn, upTo(8)), "FRESH", state{High: 15, Seen: 15, Spent: spent}},

		// 5: another treatment
		{"another key", state{}, []decrypt.Entry{entry("a")}, judged(1, pin, treated(otherKey)), "TreatmentDiffers", state{}},
		{"another format", state{}, []decrypt.Entry{entry("a")}, judged(1, pin, treated(otherFormat)), "TreatmentDiffers", state{}},
		{"another treatment below the floor", state{Floor: 5}, []decrypt.Entry{entry("a")}, judged(1, pin, treated(otherKey)), "TreatmentDiffers", state{Floor: 5}},
		{"stored treatment unreadable", state{}, []decrypt.Entry{entry("a", func(e *decrypt.Entry) { e.Treatment = []byte{0xff} })}, judged(1, pin), "TreatmentDiffers", state{}},

		// 6: another content
		{"another content", state{}, contents(1), judged(1, mac), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},
		{"another content without MAC", state{}, contents(1), judged(1, mac, unproven), "KsnReplayed", state{Conflicts: 1}},
		{"the first content was without MAC", state{}, []decrypt.Entry{entry("b", bareEntry)}, judged(1, mac), "KsnReplayed", state{Conflicts: 1}},
		{"conflicts add up", state{Conflicts: 7, Evidence: 3}, contents(1), judged(1, mac), "KsnReplayed", state{Conflicts: 8, Evidence: 4}},
		{"replayed before too old", state{Floor: 9}, contents(1), judged(1, mac), "KsnReplayed", state{Floor: 9, Conflicts: 1, Evidence: 1}},
		{"replayed before out of window", state{}, contents(1), judged(judgedJ+1, mac), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},
		{"the eighth data", state{}, contents(7), judged(1, data, upTo(8)), "FRESH", state{High: 1, Seen: 1}},
		{"the ninth data", state{}, contents(8), judged(1, data, upTo(8)), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},
		{"the eighth sign-in", state{}, contents(7), judged(1, signIn, upTo(8)), "FRESH", state{High: 1, Seen: 1}},
		{"the ninth sign-in", state{}, contents(8), judged(1, signIn, upTo(8)), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},
		{"a second PIN", state{}, contents(1), judged(1, pin), "KsnReplayed", state{Conflicts: 1, Evidence: 1}},

		// 7: floor and fence
		{"at the floor", state{Floor: 100}, nil, judged(100, mac), "KsnTooOld", state{Floor: 100}},
		{"above the floor", state{Floor: 100}, nil, judged(101, mac), "FRESH", state{High: 101, Seen: 101, Floor: 100}},
		{"more data below the floor", state{Floor: 100}, contents(1), judged(100, data, upTo(8)), "KsnTooOld", state{Floor: 100}},
		{"a sign-in at the floor", state{High: 200, Seen: 200, Floor: 100}, nil, judged(100, signIn, upTo(8)), "FRESH", state{High: 200, Seen: 200, Floor: 100}},
		{"claimed only at the floor", state{Floor: 100}, nil, judged(100, data, claimedOnly, unproven), "KsnTooOld", state{Floor: 100}},
		{"in the fence, its end", state{Floor: 100, Fences: fence}, nil, judged(100, mac), "KsnFenced", state{Floor: 100, Fences: fence}},
		{"in the fence, its start", state{Floor: 100, Fences: fence}, nil, judged(51, mac), "KsnFenced", state{Floor: 100, Fences: fence}},
		{"below the fence", state{Floor: 100, Fences: fence}, nil, judged(50, mac), "KsnTooOld", state{Floor: 100, Fences: fence}},
		{"fenced and released", state{Floor: 100, Fences: fence, Released: []decrypt.Range{{From: 60, To: 60}}}, nil, judged(60, mac), "FRESH",
			state{High: 60, Seen: 60, Floor: 100, Fences: fence, Released: []decrypt.Range{{From: 60, To: 60}}}},

		// 8: window
		{"at the end of the window", state{}, nil, judged(judgedJ, mac), "FRESH", state{High: judgedJ, Seen: judgedJ, Floor: judgedJ - judgedW}},
		{"past the window", state{}, nil, judged(judgedJ+1, mac), "KsnOutOfWindow", state{}},
		{"the window starts at high", state{High: 50, Seen: 50}, nil, judged(judgedJ+50, mac), "FRESH", state{High: judgedJ + 50, Seen: judgedJ + 50, Floor: judgedJ + 50 - judgedW}},
		{"past the window of high", state{High: 50, Seen: 50}, nil, judged(judgedJ+51, mac), "KsnOutOfWindow", state{High: 50, Seen: 50}},
		{"the window starts at the floor", state{High: 50, Seen: 50, Floor: 70}, nil, judged(judgedJ+70, mac), "FRESH", state{High: judgedJ + 70, Seen: judgedJ + 70, Floor: judgedJ + 70 - judgedW}},
		{"past the window of the floor", state{High: 50, Seen: 50, Floor: 70}, nil, judged(judgedJ+71, mac), "KsnOutOfWindow", state{High: 50, Seen: 50, Floor: 70}},
		{"seen does not open the window", state{Seen: 90_000}, nil, judged(judgedJ+1, mac), "KsnOutOfWindow", state{Seen: 90_000}},
		{"past the window without MAC", state{}, nil, judged(judgedJ+1, data, unproven), "KsnOutOfWindow", state{}},
		{"past the window, claimed only", state{}, nil, judged(judgedJ+1, data, claimedOnly), "FRESH", state{Seen: judgedJ + 1}},
		{"a sign-in past the window", state{}, nil, judged(judgedJ+1, signIn, upTo(8)), "KsnOutOfWindow", state{}},
		{"the end of all counters", state{High: 2_448_023_000, Seen: 2_448_023_000, Floor: 2_448_018_904}, nil, judged(2_448_023_842, mac), "FRESH",
			state{High: 2_448_023_842, Seen: 2_448_023_842, Floor: 2_448_023_842 - judgedW}},
		{"a window past 32 bits", state{High: 2_448_023_000, Seen: 2_448_023_000}, nil, judged(2_448_023_001, mac, func(c *decrypt.Claim) { c.J = math.MaxUint32 }), "FRESH",
			state{High: 2_448_023_001, Seen: 2_448_023_001, Floor: 2_448_023_001 - judgedW}},

		// the floor follows
		{"the floor stays at nothing", state{High: judgedW - 1, Seen: judgedW - 1}, nil, judged(judgedW, mac), "FRESH", state{High: judgedW, Seen: judgedW}},
		{"the floor leaves the ground", state{High: judgedW, Seen: judgedW}, nil, judged(judgedW+1, mac), "FRESH", state{High: judgedW + 1, Seen: judgedW + 1, Floor: 1}},
		{"a fence above it stays", state{High: 5000, Seen: 5000, Floor: 4990}, nil, judged(5001, mac), "FRESH", state{High: 5001, Seen: 5001, Floor: 4990}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			before := slices.Clone(c.row)
			r := decrypt.Judge(c.state, c.row, c.claim)
			got := r.Verdict.String()
			if r.Verdict == decrypt.Refused {
				got = string(r.Code)
			}
			if got != c.want {
				t.Fatalf("got %s, want %s", got, c.want)
			}
			if d := same(c.after, r.State); d != "" {
				t.Errorf("state after (-want +got):\n%s", d)
			}
			if d := same(before, c.row); d != "" {
				t.Errorf("the row was changed in place:\n%s", d)
			}
			checkRow(t, before, c.claim, r)
		})
	}
}

// TestJudgeTimeOnlyCloses draws anything and lets time pass: a claim that was refused stays refused, and one that was
// accepted stays as it is or is spent.
func TestJudgeTimeOnlyCloses(t *testing.T) {
	t.Parallel()
	seen := rapid.Custom(func(t *rapid.T) decrypt.Entry {
		return entry(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "content"), seenAt(time.Duration(rapid.IntRange(-3, 3).Draw(t, "seen"))),
			tried(rapid.SampledFrom([]int{0, decrypt.TriesCap}).Draw(t, "tries")))
	})
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.SliceOfN(seen, 0, 3).Draw(t, "row")
		c := judged(rapid.Uint32Range(1, 9).Draw(t, "n"), decrypt.PurposeData, upTo(rapid.IntRange(1, 4).Draw(t, "contents")), horizon)
		state := decrypt.KeyIDState{Floor: rapid.Uint32Range(0, 9).Draw(t, "floor")}
		before := decrypt.Judge(state, row, c)
		c.Horizon = c.Horizon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "passes")))
		after := decrypt.Judge(state, row, c)
		spent := after.Verdict == decrypt.Refused && after.Code == decrypt.CodeKSNSpent
		if !spent && (after.Verdict != before.Verdict || after.Code != before.Code) {
			t.Fatalf("%v %s became %v %s as time passed", before.Verdict, before.Code, after.Verdict, after.Code)
		}
		if before.Code == decrypt.CodeKSNSpent && !spent {
			t.Fatalf("spent became %v %s", after.Verdict, after.Code)
		}
	})
}

func same(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(dukpt.KSN{}))
}

// checkRow compares the row of a ruling with what its verdict means.
func checkRow(t *testing.T, before []decrypt.Entry, c decrypt.Claim, r decrypt.Ruling) {
	t.Helper()
	want := slices.Clone(before)
	switch r.Verdict {
	case decrypt.Refused:
		if r.Entry != -1 {
			t.Errorf("entry %d of a refusal", r.Entry)
		}
	case decrypt.Resend:
		want[r.Entry].Tries++
	case decrypt.Fresh:
		want = append(want, decrypt.Entry{
			Content: c.Content, ClaimKeyVersion: c.ClaimKeyVersion, FillKeyVersion: c.FillKeyVersion, Treatment: c.Treatment,
			Authenticated: c.Authenticated, MACKSN: c.MACKSN,
		})
	}
	if d := same(want, r.Row); d != "" {
		t.Errorf("row after (-want +got):\n%s", d)
	}
	if r.Entry >= 0 && r.Row[r.Entry].Content != c.Content {
		t.Errorf("entry %d is of another content", r.Entry)
	}
}

// TestJudgeNeverReopens draws anything and holds every ruling to what must never happen.
func TestJudgeNeverReopens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var state decrypt.KeyIDState
		rows := make(map[decrypt.RowKey][]decrypt.Entry)
		released := make(map[string]bool)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := rapid.Uint32Range(1, 40).Draw(t, "n")
			p := rapid.SampledFrom([]decrypt.Purpose{decrypt.PurposePIN, decrypt.PurposeData, decrypt.PurposeMAC}).Draw(t, "purpose")
			c := judged(n, p, content(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "content")), func(c *decrypt.Claim) { c.W, c.J = 8, 16 })
			if p == decrypt.PurposeData {
				c.MaxContents = 2
			}
			if rapid.Bool().Draw(t, "bare") {
				unproven(&c)
			}
			r := decrypt.Judge(state, rows[c.Row()], c)
			name := fmt.Sprint(c.Row(), c.Content)
			switch {
			case r.State.High < state.High || r.State.Floor < state.Floor || r.State.Seen < state.Seen:
				t.Fatalf("counters go back: %+v to %+v", state, r.State)
			case r.Verdict == decrypt.Fresh && released[name]:
				t.Fatalf("%s is fresh twice", name)
			case r.Verdict == decrypt.Resend && !released[name]:
				t.Fatalf("%s is a resend of nothing", name)
			case r.Verdict == decrypt.Fresh && n <= state.Floor:
				t.Fatalf("ordinal %d is fresh below the floor %d", n, state.Floor)
			case len(r.Row) > c.MaxContents:
				t.Fatalf("%d contents in a row for %d", len(r.Row), c.MaxContents)
			case r.Verdict == decrypt.Refused && (r.State.High != state.High || r.State.Floor != state.Floor || r.State.Seen != state.Seen):
				t.Fatalf("a refusal moved the counters: %+v to %+v", state, r.State)
			}
			if r.Verdict == decrypt.Fresh {
				released[name] = true
			}
			state, rows[c.Row()] = r.State, r.Row
		}
	})
}
