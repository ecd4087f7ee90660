package pin

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"testing"
)

// spreadDigits finds the fill digits of format 3 with whole numbers: floor(x * 6^14 / 2^64), in base 6.
func spreadDigits(f Fill) string {
	x := new(big.Int).SetBytes(f[:])
	x.Mul(x, new(big.Int).Exp(big.NewInt(6), big.NewInt(14), nil)).Rsh(x, 64)
	text := fmt.Sprintf("%014s", x.Text(6))
	out := []byte(text)
	for i, d := range out {
		out[i] = 'A' + d - '0'
	}
	return string(out)
}

// fillOf3 returns a Fill that gives the wanted fill digits A to F: the other way round.
func fillOf3(digits string) Fill {
	n, six := new(big.Int), big.NewInt(6)
	for _, d := range digits {
		n.Mul(n, six).Add(n, big.NewInt(int64(d-'A')))
	}
	parts := new(big.Int).Exp(six, big.NewInt(int64(len(digits))), nil)
	n.Lsh(n, 64).Add(n, parts).Sub(n, big.NewInt(1)).Div(n, parts) // rounded up
	var f Fill
	n.FillBytes(f[:])
	return f
}

func TestFillWord(t *testing.T) {
	t.Parallel()
	for _, x := range []uint64{0, 1, 1 << 63, ^uint64(0), 0x2AAAAAAAAAAAAAAA, 0x2AAAAAAAAAAAAAAB, 0x0123456789ABCDEF} {
		var f Fill
		binary.BigEndian.PutUint64(f[:], x)
		got := fmt.Sprintf("%016X", layouts[Format3].word(f))[:14]
		if want := spreadDigits(f); got != want {
			t.Errorf("the word of %X is %s, want %s", x, got, want)
		}
	}
	for f, want := range map[Format]uint64{
		Format0: 0xFFFFFFFFFFFFFFFF, Format1: 0x0123456789ABCDEF, Format2: 0xFFFFFFFFFFFFFFFF, Format4: 0xAAAAAAAAAAAAAAAA, Format4PAN12: 0xAAAAAAAAAAAAAAAA,
	} {
		if got := layouts[f].word(Fill{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF}); got != want {
			t.Errorf("%v: the word is %X, want %X", f, got, want)
		}
	}
	for _, want := range []string{"AAAAAAAAAA", "FFFFFFFFFF", "ABCDEFFEDC", "FA"} {
		f := fillOf3(want)
		if got := fmt.Sprintf("%016X", layouts[Format3].word(f))[:len(want)]; got != want {
			t.Errorf("fillOf3(%s) gives %s", want, got)
		}
	}
}

// TestFillEven counts the nibbles of the two outermost places of format 3 over evenly spread inputs.
func TestFillEven(t *testing.T) {
	t.Parallel()
	const runs = 60000
	for _, place := range []int{0, 9} {
		var count [16]int
		for i := range uint64(runs) {
			var f Fill
			binary.BigEndian.PutUint64(f[:], i*0x9E3779B97F4A7C15) // the golden ratio steps through 64 bits evenly
			count[layouts[Format3].word(f)>>(60-4*place)&0xF]++
		}
		for v := range 16 {
			want := 0
			if v >= 0xA {
				want = runs / 6
			}
			if diff := count[v] - want; diff < -runs/100 || diff > runs/100 {
				t.Errorf("place %d: %X came %d times of %d", place, v, count[v], runs)
			}
		}
	}
}

func TestGenerateFill(t *testing.T) {
	t.Parallel()
	a, b := GenerateFill(), GenerateFill()
	if a == b || a == (Fill{}) {
		t.Errorf("GenerateFill gave %X and %X", a, b)
	}
}
