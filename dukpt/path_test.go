package dukpt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
)

// checkKey holds the key of a bound transaction against that of Begin.
func checkKey(t *testing.T, b testBase, tx *HostTransaction, ksn KSN) {
	t.Helper()
	want, err := b.base.Begin(ksn)
	if err != nil {
		t.Fatal(err)
	}
	defer want.End()
	if tx.KSN() != ksn || !bytes.Equal(tx.s.key(), want.s.key()) {
		t.Fatalf("%s: %v has the key %X of %v, want %X", b.name, ksn, tx.s.key(), tx.KSN(), want.s.key())
	}
}

// TestPathConsecutive takes one step for each counter after the first, over the parts of the tree where paths are longest
// and where they turn.
func TestPathConsecutive(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		s := b.id.Scheme()
		for _, first := range []uint32{1, s.ordinal(1 << 10), s.ordinal(1<<16) - 40, s.MaxOrdinal() - 60} {
			p, tx := b.base.NewPath(), NewHostTransaction()
			ksn, err := b.id.AtOrdinal(first)
			if err != nil {
				t.Fatal(err)
			}
			for ok, i := true, 0; ok && i < 100; ksn, ok = ksn.Next() {
				steps, err := p.walk(ksn)
				if err != nil {
					t.Fatal(err)
				}
				if i > 0 && steps != 1 {
					t.Errorf("%s: %v took %d steps", b.name, ksn, steps)
				}
				if err := p.Seek(tx, ksn); err != nil {
					t.Fatal(err)
				}
				checkKey(t, b, tx, ksn)
				tx.End()
				i++
			}
			p.Wipe()
		}
	}
}

// TestPathAnywhere goes forwards and backwards, to the same counter again and to other terminals.
func TestPathAnywhere(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(11, 12))
	for _, b := range testBases(t) {
		other, _ := b.id.Next()
		p, tx := b.base.NewPath(), NewHostTransaction()
		for i := range 150 {
			id := b.id
			if i%5 == 4 {
				id = other
			}
			ksn, err := id.AtOrdinal(1 + r.Uint32N(b.id.Scheme().MaxOrdinal()))
			if err != nil {
				t.Fatal(err)
			}
			for range 1 + i%2 {
				if err := p.Seek(tx, ksn); err != nil {
					t.Fatal(err)
				}
				checkKey(t, b, tx, ksn)
				tx.End()
			}
			if steps, err := p.walk(ksn); steps != 0 || err != nil {
				t.Errorf("%s: %v again took %d steps, %v", b.name, ksn, steps, err)
			}
			if used := p.keys.Expose()[(p.depth+1)*b.base.family.size:]; !bytes.Equal(used[:len(used)-aesScratch], make([]byte, len(used)-aesScratch)) {
				t.Fatalf("%s: keys beyond depth %d are left", b.name, p.depth)
			}
			if i%20 == 17 { // the same terminal comes next
				p.Wipe()
				if k := p.keys.Expose(); !bytes.Equal(k, make([]byte, len(k))) {
					t.Fatalf("%s: Wipe left keys", b.name)
				}
			}
		}
	}
}

func TestPathRefuses(t *testing.T) {
	t.Parallel()
	bases := testBases(t)
	for i, b := range bases {
		p, tx := b.base.NewPath(), NewHostTransaction()
		ksn := mustAt(t, b.id, 77)
		foreign := mustAt(t, bases[(i+1)%2].id, 77)
		if i > 0 {
			foreign = mustAt(t, bases[0].id, 77)
		}
		for _, bad := range []KSN{{}, foreign} {
			if err := p.Seek(tx, bad); !errors.Is(err, ErrKSN) {
				t.Errorf("%s: %v gives %v", b.name, bad, err)
			}
			if err := b.base.Bind(tx, bad); !errors.Is(err, ErrKSN) {
				t.Errorf("%s: %v gives %v", b.name, bad, err)
			}
		}
		if err := p.Seek(tx, ksn); err != nil {
			t.Fatal(err)
		}
		mustPanic(t, "Seek with a live transaction", func() { _ = p.Seek(tx, ksn) })
		mustPanic(t, "Bind of a live transaction", func() { _ = b.base.Bind(tx, ksn) })
		tx.End()
		b.base.Wipe()
		if err := p.Seek(tx, ksn); err == nil {
			t.Errorf("%s: a path goes on after its base key is wiped", b.name)
		}
		if k := p.keys.Expose(); !bytes.Equal(k, make([]byte, len(k))) {
			t.Errorf("%s: a path that failed kept keys", b.name)
		}
	}
}

// TestDeriveBatch holds batches of several shapes against single derivations: one terminal, all different, mixed with
// repetitions.
func TestDeriveBatch(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		s := b.id.Scheme()
		r := rand.New(rand.NewPCG(13, 14))
		terminals := func(n int) []KeyID {
			ids := []KeyID{b.id}
			for len(ids) < n {
				next, ok := ids[len(ids)-1].Next()
				if !ok {
					t.Fatal("no more key ids")
				}
				ids = append(ids, next)
			}
			return ids
		}
		for _, c := range []struct{ terminals, ksns int }{{1, 0}, {1, 1}, {1, 700}, {65, 65}, {64, 640}, {300, 300}, {1100, 1150}, {3, 40}} {
			ids := terminals(c.terminals)
			ksns := make([]KSN, c.ksns)
			for i := range ksns {
				n := 1 + r.Uint32N(s.MaxOrdinal())
				switch i % 4 {
				case 0:
					n = 1 + uint32(i)
				case 1:
					n = s.MaxOrdinal()
				}
				ksns[i] = mustAt(t, ids[i%len(ids)], n)
			}
			times := make([]int, len(ksns))
			err := b.base.DeriveBatch(ksns, func(i int, tx *HostTransaction) error {
				times[i]++
				checkKey(t, b, tx, ksns[i])
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range times {
				if n != 1 {
					t.Fatalf("%s: %v was used %d times", b.name, ksns[i], n)
				}
			}
		}
	}
}

// TestInOrder: a batch takes terminals one after the other, and their transactions as their counters go.
func TestInOrder(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := rand.New(rand.NewPCG(15, 16))
		var ksns []KSN
		for id := range 5 {
			for range 40 {
				k := mustAt(t, b.id, 1+r.Uint32N(b.id.Scheme().MaxOrdinal()))
				for range id {
					k.id, _ = k.id.Next()
				}
				ksns = append(ksns, k)
			}
		}
		r.Shuffle(len(ksns), func(i, j int) { ksns[i], ksns[j] = ksns[j], ksns[i] })
		var got [][]byte
		for _, i := range inOrder(ksns) {
			got = append(got, ksns[i].Append(nil))
		}
		want := make([][]byte, len(ksns))
		for i, k := range ksns {
			want[i] = k.Append(nil)
		}
		slices.SortFunc(want, bytes.Compare)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: taken as %X, want %X", b.name, got, want)
		}
	}
}

// TestRunsOf: a run ends with its terminal, and is no longer than what keeps all lanes busy, but for eight keys.
func TestRunsOf(t *testing.T) {
	t.Parallel()
	id := testBases(t)[0].id
	next, _ := id.Next()
	for _, c := range []struct {
		name   string
		counts []int // transactions of each terminal
		want   []int // of each run
	}{
		{"none", nil, nil},
		{"one", []int{1}, []int{1}},
		{"as many as pay", []int{8}, []int{8}},
		{"one more", []int{9}, []int{8, 1}},
		{"two terminals", []int{3, 17}, []int{3, 8, 8, 1}},
		{"more than eight for each lane", []int{9 * des.Lanes, 0}, slices.Repeat([]int{9}, des.Lanes)},
		{"of two terminals", []int{4, 10*des.Lanes - 4}, append(append([]int{4}, slices.Repeat([]int{10}, des.Lanes-1)...), 6)},
	} {
		var ksns []KSN
		for i, n := range c.counts {
			for range n {
				ksns = append(ksns, mustAt(t, []KeyID{id, next}[i], uint32(len(ksns)+1)))
			}
		}
		order := inOrder(ksns)
		var got, parts []int
		for _, r := range runsOf(ksns, order) {
			for _, i := range r.order {
				if ksns[i].id != r.id {
					t.Errorf("%s: %v in a run of %v", c.name, ksns[i], r.id)
				}
			}
			got, parts = append(got, len(r.order)), append(parts, r.order...)
		}
		if !slices.Equal(got, c.want) || !slices.Equal(parts, order) {
			t.Errorf("%s: runs of %v, want %v; %v of %v", c.name, got, c.want, parts, order)
		}
	}
}

func TestDeriveBatchRefuses(t *testing.T) {
	t.Parallel()
	errStop := errors.New("enough")
	bases := testBases(t)
	for i, b := range bases {
		good, foreign := mustAt(t, b.id, 5), mustAt(t, bases[(i+1)%2].id, 5)
		if i > 0 {
			foreign = mustAt(t, bases[0].id, 5)
		}
		calls := 0
		use := func(int, *HostTransaction) error { calls++; return nil }
		for _, bad := range []KSN{{}, foreign} {
			if err := b.base.DeriveBatch([]KSN{good, bad}, use); !errors.Is(err, ErrKSN) || calls > 0 {
				t.Errorf("%s: %v gives %v after %d calls", b.name, bad, err, calls)
			}
		}
		var kept *HostTransaction
		err := b.base.DeriveBatch([]KSN{good, mustAt(t, b.id, 6), mustAt(t, b.id, 7)}, func(_ int, tx *HostTransaction) error {
			calls++
			kept = tx
			return errStop
		})
		if !errors.Is(err, errStop) || calls != 1 {
			t.Errorf("%s: an error of use gives %v after %d calls", b.name, err, calls)
		}
		mustPanic(t, "using the transaction of a batch afterwards", func() { kept.KSN() })
		b.base.Wipe()
		if err := b.base.DeriveBatch([]KSN{good}, use); err == nil {
			t.Errorf("%s: a wiped base key derives", b.name)
		}
	}
}

// TestStepsOfALife counts the keys that a terminal computes over a million transactions: one each, and at most as many at
// once as there are registers below the counter's lowest one bit.
func TestStepsOfALife(t *testing.T) {
	t.Parallel()
	for _, s := range []Scheme{TDES, AES} {
		f := family{scheme: s, size: 16}
		if s == AES {
			f.key = KeyAES128
		}
		// counted along the counters, which is what take does
		total, worst, n := s.counterBits(), 0, 0
		for c := uint32(1); c != 0 && n < 1_000_000; c = s.nextCounter(c) {
			steps := stepsAt(s, c)
			total, worst, n = total+steps, max(worst, steps), n+1
		}
		if amortised := float64(total) / float64(n); amortised > 1.01 || n != 1_000_000 {
			t.Errorf("%v: %.4f steps for each of %d keys", s, amortised, n)
		}
		if last := stepsAt(s, 1<<(s.counterBits()-1)); last != map[Scheme]int{TDES: 20, AES: 31}[s] || worst > last {
			t.Errorf("%v: %d steps at most, %d at the top bit", s, worst, last)
		}
	}
	// and take does what was counted
	for _, b := range testBases(t) {
		r := b.terminal(t).registers
		dst := make([]byte, b.base.family.size)
		for range 5000 {
			c := r.next
			if steps, want := r.take(dst), stepsAt(b.id.Scheme(), c); steps != want {
				t.Fatalf("%s: counter %X took %d steps, want %d", b.name, c, steps, want)
			}
		}
	}
}

// stepsAt is how many children the key of counter has.
func stepsAt(s Scheme, c uint32) (n int) {
	for i := 0; c>>i&1 == 0; i++ {
		if s.validCounter(c | 1<<i) {
			n++
		}
	}
	return n
}

// TestAllocations: TDES derives without any; AES takes one cipher for each key that is set up, and nothing else.
func TestAllocations(t *testing.T) {
	for _, b := range testBases(t) {
		ksn := mustAt(t, b.id, b.id.Scheme().ordinal(0x155AA)) // 9 one bits
		tx, term, ttx := NewHostTransaction(), b.terminal(t), NewTransaction()
		p := b.base.NewPath()
		if err := p.Seek(tx, ksn); err != nil {
			t.Fatal(err)
		}
		tx.End()
		next, _ := ksn.Next()
		room := rooms{data: make([]byte, 0, 64), mac: make([]byte, 0, 16)}
		for name, c := range map[string]struct {
			aes int
			do  func() error
		}{
			"Bind": {9, func() error { defer tx.End(); return b.base.Bind(tx, ksn) }},
			"Seek": {1, func() error { // to a child, and back to where it comes from
				defer tx.End()
				if err := p.Seek(tx, next); err != nil {
					return err
				}
				tx.End()
				return p.Seek(tx, ksn)
			}},
			"Reserve and Next": {-1, func() error {
				defer ttx.End()
				if err := term.Reserve(1, discard); err != nil {
					return err
				}
				return term.Next(ttx)
			}},
			"PIN, data and MACs": {-1, func() error { // of AES a cipher for each key that is derived, and one for each that is used
				if b.id.Scheme() == AES {
					return nil
				}
				defer tx.End()
				if err := b.base.Bind(tx, ksn); err != nil {
					return err
				}
				return work(tx, &room)
			}},
		} {
			var failed error
			got := testing.AllocsPerRun(64, func() {
				if err := c.do(); err != nil {
					failed = err
				}
			})
			want := float64(c.aes)
			if b.id.Scheme() == TDES {
				want = 0
			}
			if failed != nil || want >= 0 && got != want || got > 1.5 && c.aes < 0 {
				t.Errorf("%s: %s allocates %v times, want %v; %v", b.name, name, got, want, failed)
			}
		}
	}
}

// rooms is what work appends to.
type rooms struct{ data, mac []byte }

var workMessage = make([]byte, 48)

// work does what a host does in a transaction.
func work(tx *HostTransaction, r *rooms) error {
	s := tx.KSN().Scheme()
	data, mac := s.DefaultData(), s.DefaultMAC()
	if _, err := tx.DecryptData(r.data, data, workMessage); err != nil {
		return err
	}
	data.Direction = Response
	if _, err := tx.EncryptResponse(r.data, data, workMessage); err != nil {
		return err
	}
	if err := tx.VerifyMAC(mac, workMessage, workMessage[:mac.Length]); err != ErrVerify {
		return fmt.Errorf("a MAC of zeros: %v", err)
	}
	_, err := tx.MACResponse(r.mac, mac, workMessage)
	return err
}

func TestDescriptor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ descriptor, in, ksn, parts string }{
		{"605", "9876543210E00001", "FFFF9876543210E00001", "987654||3210E"},
		{"906", "FFFF9876543210E00001", "FFFF9876543210E00001", "FFFF98765||43210E"},
		{"A05", "FFFF9876543210E00001", "FFFF9876543210E00001", "FFFF987654||3210E"},
		{"a05", "ffff9876543210e00001", "FFFF9876543210E00001", "FFFF987654||3210E"},
		{"915", "FFFF9876543210F00001", "FFFF9876543210F00001", "FFFF98765|4|3210E"},
	} {
		d, err := ParseDescriptor(c.descriptor)
		if err != nil {
			t.Fatal(err)
		}
		ksn, err := d.Parse(c.in)
		if err != nil || ksn.String() != c.ksn {
			t.Fatalf("%s of %s: %v, %v", c.in, c.descriptor, ksn, err)
		}
		set, sub, device, err := d.Split(ksn)
		if got := set + "|" + sub + "|" + device; err != nil || got != c.parts {
			t.Errorf("%s splits %v into %s, want %s; %v", c.descriptor, ksn, got, c.parts, err)
		}
		if again, err := ParseDescriptor(d.String()); err != nil || again != d {
			t.Errorf("%v reads as %v, %v", d, again, err)
		}
	}
}

func TestDescriptorRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "6", "60", "6055", "x05", "6 5", "005", "600", "907", "A06", "FFF", "-05", "6.5", "６05"} {
		if d, err := ParseDescriptor(s); !errors.Is(err, ErrKSN) {
			t.Errorf("%q is %v, %v", s, d, err)
		}
	}
	d, err := ParseDescriptor("605")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "9876543210E0001", "9876543210E000011", "FFFF9876543210E00001", "9876543210E00000", "9876543210FFFFFF", "987654321xE00001"} {
		if ksn, err := d.Parse(s); !errors.Is(err, ErrKSN) {
			t.Errorf("%q is %v, %v", s, ksn, err)
		}
	}
	if _, err := (Descriptor{}).Parse("9876543210E00001"); !errors.Is(err, ErrKSN) {
		t.Errorf("no descriptor reads a KSN: %v", err)
	}
	for _, b := range testBases(t)[:2] {
		ksn := mustAt(t, b.id, 1)
		if b.id.Scheme() == TDES && ksn.String()[:4] == "FFFF" {
			continue
		}
		if _, _, _, err := d.Split(ksn); !errors.Is(err, ErrKSN) {
			t.Errorf("%v splits: %v", ksn, err)
		}
	}
	long, err := ParseKSNHex("FF109876543210E00001")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := d.Split(long); !errors.Is(err, ErrKSN) {
		t.Errorf("%v has more digits than 605 means: %v", long, err)
	}
	if _, _, _, err := (Descriptor{}).Split(long); !errors.Is(err, ErrKSN) {
		t.Errorf("no descriptor splits a KSN: %v", err)
	}
}
