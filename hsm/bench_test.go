package hsm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// TestBench measures for a moment, in a token with a key: it stays as it is, and nothing is left.
func TestBench(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{}, nil)
	token := open(t, o)
	put(t, token, keys.AES128)
	f := *faults
	_, objects, _ := f.live()
	searched := f.count("findObjects")
	told := 0
	all, err := token.Bench(t.Context(), time.Millisecond, func(Figure) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[engine.KeyMode]int{}
	for _, x := range all {
		kinds[x.KeyMode]++
		if x.Ours <= 0 || x.Software <= 0 || x.Floor <= 0 {
			t.Errorf("%+v", x)
		}
	}
	if len(all) != 12 || told != 12 || kinds[engine.Token] != 6 || kinds[engine.BDKInToken] != 6 {
		t.Errorf("%d figures, %d told, %v", len(all), told, kinds)
	}
	if s, n, _ := f.live(); s > 6 || n != objects || f.count("findObjects") != searched {
		t.Errorf("%d sessions and %d objects, of which there were %d", s, n, objects)
	}
}

// TestBenchTurns counts the bits of the transactions that are measured, and how far two in turn have the same way.
func TestBenchTurns(t *testing.T) {
	t.Parallel()
	for _, a := range []keys.Algorithm{keys.AES128, keys.TDES2} {
		for bits := 1; bits <= 10; bits++ {
			turns, err := benchTurns(Figure{Algorithm: a, OneBits: bits})
			if err != nil {
				t.Fatal(err)
			}
			if turns[0] == turns[1] || turns[0].KeyID() != turns[1].KeyID() {
				t.Errorf("%v, %d: %v", a, bits, turns)
			}
			if a.IsTDES() {
				continue
			}
			first, _, err := turns[0].Derivations(dukpt.KeyAES128)
			second, _, err2 := turns[1].Derivations(dukpt.KeyAES128)
			if err != nil || err2 != nil || len(first) != bits || len(second) != bits {
				t.Errorf("%d one bits: %X and %X, %v, %v", bits, first, second, err, err2)
				continue
			}
			for i := range bits - 1 {
				if first[i] != second[i] {
					t.Errorf("%d one bits: the ways part at %d", bits, i)
				}
			}
		}
	}
}

// TestBenchFails has calls fail, the token lack what is measured, and the caller give up: there is no figure, and nothing left.
func TestBenchFails(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Clock: fast()}, nil)
	token := open(t, o)
	f := *faults
	for at := 0; at < 40; at++ {
		f.failAfter(at, rvFailed)
		if _, err := token.Bench(t.Context(), time.Nanosecond, nil); err == nil {
			if f.failed() {
				continue // a key that is not destroyed goes with its session
			}
			t.Errorf("call %d fails: no error", at)
		}
		f.failAfter(0, nil)
		if _, objects, _ := f.live(); objects != 0 {
			t.Errorf("call %d fails: %d objects are left", at, objects)
		}
	}
	f.lie("sign", func(b []byte) []byte { b[0] ^= 1; return b })
	if _, err := token.Bench(t.Context(), time.Nanosecond, nil); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a wrong MAC: %v", err)
	}
	f.lie("", nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if all, err := token.Bench(gone, time.Nanosecond, nil); err == nil || len(all) != 0 {
		t.Errorf("given up: %v, %v", all, err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Bench(t.Context(), 0, nil); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
}
