package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// Harness says how the suite gets at a store.
type Harness struct {
	// Open opens the store that lives in dir, making it the first time. The suite closes it, and may open it again.
	Open func(t testing.TB, dir string) decrypt.Store
	// Dump returns everything that an open store holds.
	Dump func(t testing.TB, s decrypt.Store) Contents
	// Commits returns how many transactions the store has put on the disk; nil when it does not say.
	Commits func(s decrypt.Store) uint64
}

// Run runs every test of the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"FreshThenResend": testFreshThenResend, "Refusals": testRefusals, "AllOrNothing": testAllOrNothing,
		"OtherContents": testOtherContents, "SameContents": testSameContents, "Durable": testDurable, "Answers": testAnswers,
		"AnswersRace": testAnswersRace, "Reversal": testReversal, "SignIn": testSignIn, "Resend": testResend,
		"AuditLog": testAuditLog, "Cancelled": testCancelled, "Closed": testClosed, "Malformed": testMalformed,
		"Commits": testCommits, "Mixed": testMixed, "Horizon": testHorizon, "TriesCap": testTriesCap, "Histories": testHistories,
		"Drains": testDrains, "Linear": testLinear, "Fence": testFence, "Raise": testRaise, "Imported": testImported, "ImportedBehindFence": testImportedBehindFence, "DrainsRace": testDrainsRace, "EachCounter": testEachCounter, "Evidence": testEvidence,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// open opens a store that is closed at the end of the test.
func (h Harness) open(t testing.TB, dir string) decrypt.Store {
	t.Helper()
	s := h.Open(t, dir)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// compare compares two dumps.
func compare(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(),
		cmpopts.EquateComparable(dukpt.KSN{}, dukpt.KeyID{}, keys.Fingerprint{}, keyset.KeyRef{}))
}

// unchanged demands that a store holds what it held, apart from audit records and conflict counts.
func unchanged(t testing.TB, before, after Contents) {
	t.Helper()
	before, after = before.clone(), after.clone()
	before.Leaves, after.Leaves = nil, nil
	before.Accused, after.Accused = nil, nil
	for _, c := range []Contents{before, after} {
		for k, s := range c.States {
			s.Conflicts, s.Evidence = 0, 0
			c.States[k] = s
			if compare(s, decrypt.KeyIDState{}) == "" { // known for its conflicts only
				delete(c.States, k)
			}
		}
	}
	if d := compare(before, after); d != "" {
		t.Errorf("a refusal changed the store (-before +after):\n%s", d)
	}
}

func codeOf(err error) decrypt.Code {
	if r, ok := errors.AsType[*decrypt.Refusal](err); ok {
		return r.Code
	}
	return ""
}

func testFreshThenResend(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	first := sale("s1", 7)
	out := claimed(t, s, first, decrypt.Fresh)
	if out.Answer != nil || len(out.Claims) != 3 {
		t.Fatalf("outcome %+v, want three claims and no answer", out)
	}
	again := sale("s1", 7)
	for i := range again.Claims { // the outgoing key and the service's keys have moved on since
		again.Claims[i].Treatment = treatment("zone", "v2")
		again.Claims[i].FillKeyVersion, again.Claims[i].ClaimKeyVersion = 9, 9
	}
	again.Time = noon.Add(time.Hour)
	for tries := 1; tries <= 3; tries++ {
		out = claimed(t, s, again, decrypt.Resend)
		for i, c := range out.Claims {
			want := decrypt.ClaimResult{Verdict: decrypt.Resend, Treatment: treatment("zone", "v1"), ClaimKeyVersion: 1, FillKeyVersion: 1, Tries: tries}
			if d := compare(want, c); d != "" {
				t.Errorf("claim %d, time %d (-want +got):\n%s", i, tries, d)
			}
		}
	}
	row := h.Dump(t, s).Rows[first.Claims[0].Row()]
	if len(row) != 1 || !row[0].FirstSeen.Equal(noon) || row[0].Tries != 3 {
		t.Errorf("row %+v, want one entry first seen at %v", row, noon)
	}
	r, ok, err := s.LookupRequest(t.Context(), first.Digest)
	want := decrypt.Request{Digest: first.Digest, Original: first.Digest, Tenant: "SHOP", Context: []byte("context of s1")}
	if d := compare(want, r); err != nil || !ok || d != "" {
		t.Errorf("request %v %v (-want +got):\n%s", ok, err, d)
	}
}

// testRefusals goes through the verdicts. Before each of them the same things have happened.
func testRefusals(t *testing.T, h Harness) {
	differs := sale("s100", 100)
	differs.Claims[1].Treatment = treatment("elsewhere", "v1")
	third := set("third", claim(dataID, 100, decrypt.PurposeMAC, "s100 mac"), claim(dataID, 100, decrypt.PurposeData, "third"))
	third.Claims[1].MaxContents = 1
	unproven := set("unproven", bare(dataID, 100, decrypt.PurposeMAC, "else"))
	for _, c := range []struct {
		name                string
		set                 decrypt.ClaimSet
		code                decrypt.Code // empty: accepted
		conflicts, evidence uint64
	}{
		{"another message under a used counter", sale("other", 100), decrypt.CodeKSNReplayed, 1, 1},
		{"the same without a MAC is no evidence", unproven, decrypt.CodeKSNReplayed, 1, 0},
		{"more data than the set allows", third, decrypt.CodeKSNReplayed, 1, 1},
		{"another outgoing key", differs, decrypt.CodeTreatmentDiffers, 0, 0},
		{"at the floor", sale("low", 100-windowW), decrypt.CodeKSNTooOld, 0, 0},
		{"above the floor", sale("low+1", 100-windowW+1), "", 0, 0},
		{"the first", sale("first", 1), decrypt.CodeKSNTooOld, 0, 0},
		{"at the end of the window", sale("high", 100+windowJ), "", 0, 0},
		{"past the window", sale("high+1", 100+windowJ+1), decrypt.CodeKSNOutOfWindow, 0, 0},
		{"no window without a MAC", set("far", bare(dataID, 100_000, decrypt.PurposeData, "far")), "", 0, 0},
		{"a new terminal past its window", set("new", claim(otherID, windowJ+1, decrypt.PurposeMAC, "new")), decrypt.CodeKSNOutOfWindow, 0, 0},
		{"a new terminal inside its window", set("new", claim(otherID, windowJ, decrypt.PurposeMAC, "new")), "", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := h.open(t, t.TempDir())
			claimed(t, s, sale("s100", 100), decrypt.Fresh)
			before := h.Dump(t, s)
			_, err := s.Claim(t.Context(), c.set)
			if codeOf(err) != c.code || (err == nil) != (c.code == "") {
				t.Fatalf("claim: %v, want code %q", err, c.code)
			}
			after := h.Dump(t, s)
			if c.code == "" {
				return
			}
			unchanged(t, before, after)
			var conflicts, evidence uint64
			for _, state := range after.States {
				conflicts += state.Conflicts
				evidence += state.Evidence
			}
			if conflicts != c.conflicts || evidence != c.evidence {
				t.Errorf("%d conflicts, %d evidence, want %d, %d", conflicts, evidence, c.conflicts, c.evidence)
			}
			last := after.Leaves[len(after.Leaves)-1]
			if len(after.Leaves) != len(before.Leaves)+1 || last.Result != "REFUSED" || last.Reason != string(c.code) {
				t.Errorf("audit: %d records, the last is %+v", len(after.Leaves)-len(before.Leaves), last)
			}
		})
	}
}

func testAllOrNothing(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	claimed(t, s, set("earlier", claim(pinID, 5, decrypt.PurposePIN, "earlier pin")), decrypt.Fresh)
	before := h.Dump(t, s)
	mixed := sale("s5", 5) // its PIN collides, its MAC and its data would be fresh
	if _, err := s.Claim(t.Context(), mixed); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Fatalf("claim: %v, want %s", err, decrypt.CodeKSNReplayed)
	}
	unchanged(t, before, h.Dump(t, s))
	if _, ok, err := s.LookupRequest(t.Context(), mixed.Digest); ok || err != nil {
		t.Errorf("a refused message is known: %v %v", ok, err)
	}
}

// together runs f n times at once and returns when all have returned.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func testOtherContents(t *testing.T, h Harness) {
	const racers, rounds = 8, 10
	s := h.open(t, t.TempDir())
	for round := range uint32(rounds) {
		var mu sync.Mutex
		codes := make(map[decrypt.Code]int)
		together(racers, func(i int) {
			out, err := s.Claim(t.Context(), sale(fmt.Sprintf("round %d racer %d", round, i), round+1))
			mu.Lock()
			defer mu.Unlock()
			code := codeOf(err)
			if err == nil {
				code = decrypt.Code(out.Verdict.String())
			}
			codes[code]++
		})
		if codes["FRESH"] != 1 || codes[decrypt.CodeKSNReplayed] != racers-1 {
			t.Fatalf("round %d: %v, want one FRESH and %d %s", round, codes, racers-1, decrypt.CodeKSNReplayed)
		}
	}
}

func testSameContents(t *testing.T, h Harness) {
	const racers = 16
	s := h.open(t, t.TempDir())
	var mu sync.Mutex
	verdicts := make(map[decrypt.Verdict]int)
	together(racers, func(int) {
		out, err := s.Claim(t.Context(), sale("one", 1))
		if err != nil {
			t.Errorf("claim: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		verdicts[out.Verdict]++
	})
	if verdicts[decrypt.Fresh] != 1 || verdicts[decrypt.Resend] != racers-1 {
		t.Errorf("%v, want one FRESH and %d RESEND", verdicts, racers-1)
	}
}

func testDurable(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	for n := range uint32(20) {
		claimed(t, s, sale(fmt.Sprint("s", n+1), n+1), decrypt.Fresh)
	}
	_, err := s.Claim(t.Context(), sale("other", 3))
	if codeOf(err) != decrypt.CodeKSNReplayed {
		t.Fatalf("claim: %v", err)
	}
	if _, err := s.RecordAnswer(t.Context(), answer(sale("s3", 3), message.Approved)); err != nil {
		t.Fatalf("answer: %v", err)
	}
	claimed(t, s, reversal("r", 30, 4), decrypt.Fresh)
	claimed(t, s, reversal("early", 31, 25), decrypt.Fresh)
	before := h.Dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	if d := compare(before, h.Dump(t, s)); d != "" {
		t.Fatalf("after opening again (-before +after):\n%s", d)
	}
	out := claimed(t, s, sale("s3", 3), decrypt.Resend)
	if out.Answer == nil || out.Answer.Result != message.Approved || len(out.Answer.Ack) == 0 {
		t.Errorf("answer %+v, want the recorded one", out.Answer)
	}
	if _, err := s.Claim(t.Context(), sale("other", 3)); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Errorf("replay after opening again: %v", err)
	}
	claimed(t, s, sale("s40", 40), decrypt.Fresh) // and the log goes on where it ended
	if got := len(h.Dump(t, s).Leaves); got != len(before.Leaves)+3 {
		t.Errorf("%d audit records, want %d", got, len(before.Leaves)+3)
	}
}

// testHorizon lets time pass: a row is answered again until its horizon, and then no more.
func testHorizon(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	data := func(name string) decrypt.ClaimSet {
		return set(name, claim(dataID, 3, decrypt.PurposeMAC, name), claim(dataID, 3, decrypt.PurposeData, name))
	}
	signIn := set("sign-in", claim(dataID, 4, decrypt.PurposeSignIn, "sign-in"))
	reversed := sale("reversed", 5)
	for _, c := range []decrypt.ClaimSet{sale("s1", 1), data("d3"), signIn, reversed, reversal("r6", 6, 5)} {
		claimed(t, s, c, decrypt.Fresh)
	}
	if err := s.Close(); err != nil { // the age is that of what is stored
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	last, late := noon.Add(horizonR), noon.Add(horizonR+time.Millisecond)
	claimed(t, s, at(sale("s1", 1), last), decrypt.Resend)
	before := h.Dump(t, s)
	more := set("more", data("d3").Claims[0], claim(dataID, 3, decrypt.PurposeData, "more"))
	for name, c := range map[string]struct {
		set  decrypt.ClaimSet
		code decrypt.Code
	}{
		"the same":                   {sale("s1", 1), decrypt.CodeKSNSpent},
		"another message":            {sale("other", 1), decrypt.CodeKSNSpent},
		"inside a resend":            {resent("x7", 7, sale("s1", 1)), decrypt.CodeKSNSpent},
		"a field in another message": {set("m8", claim(dataID, 8, decrypt.PurposeMAC, "m8"), sale("s1", 1).Claims[1]), decrypt.CodeKSNSpent},
		"more data":                  {more, decrypt.CodeKSNSpent},
		"a reversed message":         {reversed, decrypt.CodeReversed},
	} {
		if _, err := s.Claim(t.Context(), at(c.set, late)); codeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	unchanged(t, before, h.Dump(t, s))
	for _, state := range h.Dump(t, s).States {
		if state.Conflicts != 0 {
			t.Errorf("%d conflicts of rows that are spent", state.Conflicts)
		}
	}
	claimed(t, s, at(signIn, late), decrypt.Resend)
	claimed(t, s, at(set("sign-in 2", claim(dataID, 4, decrypt.PurposeSignIn, "sign-in 2")), late), decrypt.Fresh)
	claimed(t, s, at(sale("s2", 2), late), decrypt.Fresh) // a key without a row has no age
	claimed(t, s, at(sale("s2", 2), late.Add(horizonR)), decrypt.Resend)

	// A clock that was set back answers what was released, and takes nothing in its place.
	claimed(t, s, at(sale("s1", 1), last), decrypt.Resend)
	if _, err := s.Claim(t.Context(), at(sale("other", 1), last)); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Errorf("another message when the clock is set back: %v, want %s", err, decrypt.CodeKSNReplayed)
	}
}

func testAuditLog(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	claimed(t, s, sale("s1", 1), decrypt.Fresh)
	claimed(t, s, sale("s1", 1), decrypt.Resend)
	_, _ = s.Claim(t.Context(), sale("other", 1)) // refused, as below
	if err := s.Audit(t.Context(), record("start", "daemon")); err != nil {
		t.Fatalf("audit: %v", err)
	}
	if _, err := s.RecordAnswer(t.Context(), answer(sale("s1", 1), message.Approved)); err != nil {
		t.Fatalf("answer: %v", err)
	}
	var got []string
	for i, r := range h.Dump(t, s).Leaves {
		if r.Sequence != uint64(i)+1 || r.Instance != "decrypt-1" || !r.Time.Equal(noon) {
			t.Errorf("record %d: %+v", i, r)
		}
		got = append(got, fmt.Sprint(r.Action, " ", r.Object, " ", r.Result, r.Reason))
	}
	want := []string{
		"transaction/sale s1 FRESH", "transaction/sale s1 RESEND", "transaction/sale other REFUSEDKsnReplayed", "start daemon DONE", "answer s1 DONE",
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit log %q, want %q", got, want)
	}
	before := h.Dump(t, s)
	broken := sale("s2", 2)
	broken.Audit.Instance = "" // a record that cannot be written releases nothing
	if _, err := s.Claim(t.Context(), broken); err == nil {
		t.Error("a claim without audit record is accepted")
	}
	if d := compare(before, h.Dump(t, s)); d != "" {
		t.Errorf("a claim without audit record changed the store:\n%s", d)
	}
}

func testCancelled(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	before := h.Dump(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Claim(ctx, sale("s1", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("claim: %v", err)
	}
	if _, err := s.RecordAnswer(ctx, answer(sale("s1", 1), message.Approved)); !errors.Is(err, context.Canceled) {
		t.Errorf("answer: %v", err)
	}
	if err := s.Audit(ctx, record("start", "daemon")); !errors.Is(err, context.Canceled) {
		t.Errorf("audit: %v", err)
	}
	if err := s.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("check: %v", err)
	}
	if d := compare(before, h.Dump(t, s)); d != "" {
		t.Errorf("cancelled calls changed the store:\n%s", d)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}

func testClosed(t *testing.T, h Harness) {
	s := h.Open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	_, claim := s.Claim(t.Context(), sale("s1", 1))
	_, counters := s.Counters(t.Context(), base, dataID)
	_, _, lookup := s.LookupAnswer(t.Context(), digest("s1"))
	each := s.EachCounter(t.Context(), func(decrypt.CounterKey, decrypt.KeyIDState) error { return nil })
	for name, err := range map[string]error{
		"claim": claim, "counters": counters, "lookup": lookup, "each counter": each, "check": s.Check(t.Context()),
	} {
		if codeOf(err) != decrypt.CodeStoreUnavailable {
			t.Errorf("%s after close: %v, want %s", name, err, decrypt.CodeStoreUnavailable)
		}
	}
}

// testMalformed gives sets that only a fault of our own code, or of a terminal, makes.
func testMalformed(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	before := h.Dump(t, s)
	for name, spoil := range map[string]func(*decrypt.ClaimSet){
		"no digest":          func(s *decrypt.ClaimSet) { s.Digest = message.Digest{} },
		"no original":        func(s *decrypt.ClaimSet) { s.Original = message.Digest{} },
		"no tenant":          func(s *decrypt.ClaimSet) { s.Tenant = "" },
		"no claims":          func(s *decrypt.ClaimSet) { s.Claims = nil },
		"context too long":   func(s *decrypt.ClaimSet) { s.Context = make([]byte, decrypt.MaxContext+1) },
		"no base key":        func(s *decrypt.ClaimSet) { s.Claims[1].BaseKey = keys.Fingerprint{} },
		"no KSN":             func(s *decrypt.ClaimSet) { s.Claims[1].KSN = dukpt.KSN{} },
		"no purpose":         func(s *decrypt.ClaimSet) { s.Claims[1].Purpose = 0 },
		"no content":         func(s *decrypt.ClaimSet) { s.Claims[1].Content = decrypt.Content{} },
		"two PINs allowed":   func(s *decrypt.ClaimSet) { s.Claims[1].MaxContents = 2 },
		"no content allowed": func(s *decrypt.ClaimSet) { s.Claims[1].MaxContents = 0 },
		"nine data allowed":  func(s *decrypt.ClaimSet) { s.Claims[2].MaxContents = decrypt.MaxDataContents + 1 },
		"no treatment":       func(s *decrypt.ClaimSet) { s.Claims[1].Treatment = nil },
		"no window":          func(s *decrypt.ClaimSet) { s.Claims[1].J = 0 },
		"no horizon":         func(s *decrypt.ClaimSet) { s.Claims[1].Horizon = time.Time{} },
		"horizon to come":    func(s *decrypt.ClaimSet) { s.Claims[1].Horizon = s.Time },
		"MAC without KSN":    func(s *decrypt.ClaimSet) { s.Claims[1].MACKSN = dukpt.KSN{} },
		"reversal of no key": func(s *decrypt.ClaimSet) { s.Closes = &decrypt.Closes{MACKSN: ksn(dataID, 9)} },
		"grant without id":   func(s *decrypt.ClaimSet) { s.Grants = []decrypt.Grant{{ID: "", Count: 1}} },
		"grant with an essay": func(s *decrypt.ClaimSet) {
			s.Grants = []decrypt.Grant{{ID: strings.Repeat("G", decrypt.MaxGrantID+1), Count: 1}}
		},
		"grant of nothing": func(s *decrypt.ClaimSet) { s.Grants = []decrypt.Grant{{ID: "G"}} },
	} {
		bad := sale("s1", 1)
		spoil(&bad)
		if _, err := s.Claim(t.Context(), bad); err == nil || codeOf(err) != "" {
			t.Errorf("%s: %v, want an error that is no refusal", name, err)
		}
	}
	if d := compare(before, h.Dump(t, s)); d != "" {
		t.Errorf("malformed sets changed the store:\n%s", d)
	}
	twice := sale("s1", 1)
	twice.Claims = append(twice.Claims, twice.Claims[2])
	for name, set := range map[string]decrypt.ClaimSet{"one content twice": twice, "a reversal of itself": reversal("r", 1, 1)} {
		if _, err := s.Claim(t.Context(), set); codeOf(err) != decrypt.CodeMessageMalformed {
			t.Errorf("%s: %v, want %s", name, err, decrypt.CodeMessageMalformed)
		}
	}
	unchanged(t, before, h.Dump(t, s))
}

// testCommits asks whether callers that come together share commits. How many do is a matter of luck, so the bound is weak.
func testCommits(t *testing.T, h Harness) {
	if h.Commits == nil {
		t.Skip("this store does not count commits")
	}
	const callers = 200
	s := h.open(t, t.TempDir())
	before := h.Commits(s)
	together(callers, func(i int) {
		if _, err := s.Claim(t.Context(), set(fmt.Sprint(i), claim(dataID, uint32(i)+1, decrypt.PurposeMAC, fmt.Sprint(i)))); err != nil && codeOf(err) != decrypt.CodeKSNTooOld {
			t.Errorf("claim %d: %v", i, err)
		}
	})
	commits := h.Commits(s) - before
	if commits < 1 || commits > callers/2 {
		t.Errorf("%d commits for %d callers at once, want at most %d", commits, callers, callers/2)
	}
	t.Logf("%d commits for %d callers", commits, callers)
	claimed(t, s, set("alone", claim(otherID, 1, decrypt.PurposeMAC, "alone")), decrypt.Fresh)
	if got := h.Commits(s) - before; got != commits+1 {
		t.Errorf("a caller alone makes %d commits, want 1", got-commits)
	}
}

func testTriesCap(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	claimed(t, s, sale("s1", 1), decrypt.Fresh)
	for range decrypt.TriesCap {
		claimed(t, s, sale("s1", 1), decrypt.Resend)
	}
	before := h.Dump(t, s)
	if _, err := s.Claim(t.Context(), sale("s1", 1)); codeOf(err) != decrypt.CodeResendCapReached {
		t.Errorf("resend %d: %v, want %s", decrypt.TriesCap+1, err, decrypt.CodeResendCapReached)
	}
	unchanged(t, before, h.Dump(t, s))
}
