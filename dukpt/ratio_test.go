package dukpt

import (
	"crypto/aes"
	"crypto/cipher"
	stdes "crypto/des"
	"encoding/binary"
	"flag"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/keys"
)

// ratios asks for the comparison in time, which is no part of the tests: nanoseconds differ from machine to machine and from
// minute to minute. Within one run, case after case in turn, their ratios hold.
var ratios = flag.Bool("ratios", false, "compare times with the standard library's, and fail beyond the targets")

// contest is some ways to do the same: the first is the one that the others are measured by.
type contest struct {
	name  string
	cases []contender
}

type contender struct {
	name   string
	target float64   // of the time of the first; 0 for none
	do     func(int) // n times
}

const (
	ratioRounds = 31
	ratioTime   = 4 * time.Millisecond // of a case in a round
)

// TestRatios runs all cases of a contest in turn, again and again, and takes the median of the ratios within each turn: what the
// machine does meanwhile is the same for both then.
func TestRatios(t *testing.T) {
	if !*ratios {
		t.Skip("with -ratios only: make bench")
	}
	fmt.Printf("%-34s %-34s %12s %12s %8s %8s\n", "", "", "least ns", "median ns", "ratio", "target")
	for _, c := range contests(t) {
		times := make([][]float64, len(c.cases))
		counts := make([]int, len(c.cases))
		for i, x := range c.cases {
			for counts[i] = 1; ; counts[i] *= 2 {
				begin := time.Now()
				x.do(counts[i])
				if time.Since(begin) > ratioTime/2 {
					break
				}
			}
		}
		for range ratioRounds {
			for i, x := range c.cases {
				begin := time.Now()
				x.do(counts[i])
				times[i] = append(times[i], float64(time.Since(begin).Nanoseconds())/float64(counts[i]))
			}
		}
		for i, x := range c.cases {
			ratios := make([]float64, ratioRounds)
			for round, first := range times[0] {
				ratios[round] = times[i][round] / first
			}
			slices.Sort(ratios)
			all := slices.Sorted(slices.Values(times[i]))
			median, ratio, target := all[ratioRounds/2], ratios[ratioRounds/2], ""
			if x.target > 0 {
				target = fmt.Sprintf("<= %.2f", x.target)
				if ratio > x.target {
					t.Errorf("%s, %s: %.3f, want %s", c.name, x.name, ratio, target)
				}
			}
			fmt.Printf("%-34s %-34s %12.0f %12.0f %8.3f %8s\n", c.name, x.name, all[0], median, ratio, target)
			c.name = ""
		}
	}
}

// someKSNs are of as many terminals, at random places of their lives.
func someKSNs(t *testing.T, b testBase, n int) []KSN {
	r := rand.New(rand.NewPCG(21, 22))
	ksns := make([]KSN, n)
	id := b.id
	for i := range ksns {
		ksns[i] = mustAt(t, id, 1+r.Uint32N(id.Scheme().MaxOrdinal()))
		id, _ = id.Next()
	}
	return ksns
}

func contests(t *testing.T) []contest {
	bases := testBases(t)
	return []contest{hostTDES(t, bases[0]), hostAES(t, bases[1]), terminalTDES(t, bases[0])}
}

func hostTDES(t *testing.T, b testBase) contest {
	ksns := someKSNs(t, b, 64*16)
	at := func(i int) KSN { return ksns[i%len(ksns)] }
	tx := NewHostTransaction()
	path := b.base.NewPath()
	consecutive := mustAt(t, b.id, 1000)
	return contest{"host, TDES: base key to PIN key", []contender{
		{"crypto/des", 0, func(n int) {
			k := newStdTDES(b.bdk)
			for i := range n {
				k.pinKey(at(i))
			}
		}},
		{"Bind", 0.55, func(n int) {
			for i := range n {
				if err := b.base.Bind(tx, at(i)); err != nil {
					panic(err)
				}
				tx.s.variant(maskPIN)
				tx.End()
			}
		}},
		{"DeriveBatch of 64 terminals, a key", 0.04, func(n int) {
			for done := 0; done < n; done += 64 {
				from := done % len(ksns)
				err := b.base.DeriveBatch(ksns[from:from+64], func(_ int, tx *HostTransaction) error {
					tx.s.variant(maskPIN)
					return nil
				})
				if err != nil {
					panic(err)
				}
			}
		}},
		{"Path.Seek, counter after counter", 0, func(n int) {
			ksn := consecutive
			for range n {
				if err := path.Seek(tx, ksn); err != nil {
					panic(err)
				}
				tx.s.variant(maskPIN)
				tx.End()
				ksn, _ = ksn.Next()
			}
		}},
		{"floor: passes of the engine alone", 0, func(n int) {
			var s des.PairSchedule
			var x des.Pair
			for i := range n {
				for range 3 + bits.OnesCount32(at(i).Counter()) {
					x.Encrypt(&s)
				}
			}
		}},
	}}
}

func hostAES(t *testing.T, b testBase) contest {
	ksns := someKSNs(t, b, 1024)
	at := func(i int) KSN { return ksns[i%len(ksns)] }
	tx := NewHostTransaction()
	return contest{"host, AES-128: base key to PIN key", []contender{
		{"steps x [NewCipher + Encrypt]", 0, func(n int) {
			var key, block [16]byte
			base, err := aes.NewCipher(b.bdk)
			if err != nil {
				panic(err)
			}
			for i := range n {
				base.Encrypt(block[:], block[:]) // the initial key: the base key is set up already
				// one for each one bit of the counter, one for the working key
				for range 1 + bits.OnesCount32(at(i).Counter()) {
					c, err := aes.NewCipher(key[:])
					if err != nil {
						panic(err)
					}
					c.Encrypt(block[:], block[:])
				}
			}
		}},
		{"Bind", 1.15, func(n int) {
			for i := range n {
				if err := b.base.Bind(tx, at(i)); err != nil {
					panic(err)
				}
				if _, err := tx.s.derive(usagePIN, KeyAES128); err != nil {
					panic(err)
				}
				tx.End()
			}
		}},
	}}
}

func terminalTDES(t *testing.T, b testBase) contest {
	ours, other := b.terminal(t), b.terminal(t)
	tx := NewTransaction()
	std := newStdTDES(b.bdk)
	return contest{"terminal, TDES: next key", []contender{
		{"one step on crypto/des", 0, func(n int) {
			key := [16]byte(b.bdk)
			for i := range n {
				std.step(&key, uint64(i))
			}
		}},
		{"Reserve 32, Next", 0, func(n int) { nextKeys(b, &ours, t, tx, n, MaxReserve) }},
		{"Reserve 1, Next", 0, func(n int) { nextKeys(b, &other, t, tx, n, 1) }},
	}}
}

// nextKeys takes n keys, of a new terminal when one is through.
func nextKeys(b testBase, term **Terminal, t *testing.T, tx *Transaction, n, reserve int) {
	for range n {
		if (*term).Available() == 0 {
			err := (*term).Reserve(reserve, discard)
			if err == ErrExhausted {
				*term = b.terminal(t)
				err = (*term).Reserve(reserve, discard)
			}
			if err != nil {
				panic(err)
			}
		}
		if err := (*term).Next(tx); err != nil {
			panic(err)
		}
		tx.End()
	}
}

// stdTDES is the host derivation of TDES DUKPT on crypto/des, written straight from X9.24-1:2009: the baseline, and an oracle.
// The base key is set up once.
type stdTDES struct{ base, masked cipher.Block }

func newStdTDES(bdk []byte) stdTDES {
	block := func(mask uint64) cipher.Block {
		left, right := binary.BigEndian.Uint64(bdk)^mask, binary.BigEndian.Uint64(bdk[8:])^mask
		k := binary.BigEndian.AppendUint64(nil, left)
		k = binary.BigEndian.AppendUint64(k, right)
		c, err := stdes.NewTripleDESCipher(binary.BigEndian.AppendUint64(k, left))
		if err != nil {
			panic(err)
		}
		return c
	}
	return stdTDES{block(0), block(maskInitial)}
}

func (s stdTDES) pinKey(ksn KSN) (key [16]byte) {
	id := ksn.KeyID().Append(nil)
	s.base.Encrypt(key[:8], id[:8])
	s.masked.Encrypt(key[8:], id[:8])
	register := binary.BigEndian.Uint64(id[2:])
	for left, c := ksn.Counter(), uint32(0); left != 0; {
		bit := uint32(1) << (31 - bits.LeadingZeros32(left))
		left, c = left&^bit, c|bit
		s.step(&key, register|uint64(c))
	}
	key[7] ^= 0xFF
	key[15] ^= 0xFF
	return key
}

func (s stdTDES) step(key *[16]byte, register uint64) {
	var out [16]byte
	for half, mask := range []uint64{maskInitial, 0} {
		left, right := binary.BigEndian.Uint64(key[:8])^mask, binary.BigEndian.Uint64(key[8:])^mask
		c, err := stdes.NewCipher(binary.BigEndian.AppendUint64(nil, left))
		if err != nil {
			panic(err)
		}
		block := binary.BigEndian.AppendUint64(nil, register^right)
		c.Encrypt(block, block)
		binary.BigEndian.PutUint64(out[8*half:], binary.BigEndian.Uint64(block)^right)
	}
	*key = out
}

// TestBaselineAgrees keeps the comparison honest: what is measured against computes the same keys.
func TestBaselineAgrees(t *testing.T) {
	t.Parallel()
	b := testBases(t)[0]
	if b.base.family.algorithm() != keys.TDES2 {
		t.Fatal("the first test base key is not TDES")
	}
	std := newStdTDES(b.bdk)
	for _, ksn := range someKSNs(t, b, 300) {
		tx, err := b.base.Begin(ksn)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := *tx.s.variant(maskPIN), std.pinKey(ksn); got != want {
			t.Fatalf("%v: %X, want %X", ksn, got, want)
		}
		tx.End()
	}
}
