package dukpt

import (
	"errors"
	"fmt"
	"math/bits"
)

// Scheme is one of the two DUKPT schemes. The zero value is neither.
type Scheme uint8

// The schemes: [TDES] of ANSI X9.24-1:2009 (X9.24-3:2017, Annex C), [AES] of ANSI X9.24-3:2017.
const (
	TDES Scheme = iota + 1
	AES
)

var (
	// ErrKSN says that a key serial number or key id cannot be one, or does not fit the key it is used with.
	ErrKSN = errors.New("dukpt: invalid key serial number")
	// ErrExhausted says that a terminal has used its last key and needs a new initial key.
	ErrExhausted = errors.New("dukpt: keys exhausted")
	// ErrNotReserved says that no key is reserved: call Reserve first.
	ErrNotReserved = errors.New("dukpt: no key reserved")
	// ErrLength says that data, an initialisation vector or a MAC has the wrong number of bytes.
	ErrLength = errors.New("dukpt: wrong length")
	// ErrVerify says that a MAC, a PIN block or the padding of data does not verify. It never says why.
	ErrVerify = errors.New("dukpt: does not verify")
	// ErrStrength says that a working key would be stronger than the key it comes from (X9.24-3:2017, 6.1.3).
	ErrStrength = errors.New("dukpt: working key stronger than its parent")
	// ErrUnsupported says that a specification asks for what the scheme does not have or what is not implemented.
	ErrUnsupported = errors.New("dukpt: not supported")
	// ErrState says that a saved terminal state is damaged or not one.
	ErrState = errors.New("dukpt: invalid terminal state")
)

// String returns "TDES" or "AES".
func (s Scheme) String() string {
	switch s {
	case TDES:
		return "TDES"
	case AES:
		return "AES"
	}
	return fmt.Sprintf("Scheme(%d)", uint8(s))
}

// ParseScheme reads what String gives.
func ParseScheme(s string) (Scheme, error) {
	switch s {
	case "TDES":
		return TDES, nil
	case "AES":
		return AES, nil
	}
	return 0, fmt.Errorf("%w: scheme %q", ErrUnsupported, s)
}

// MaxOrdinal returns the number of keys one initial key gives: 1,048,575 or 2,448,023,842.
func (s Scheme) MaxOrdinal() uint32 {
	if s.counterBits() == 0 {
		return 0
	}
	return atMost[s.counterBits()][s.maxOnes()] - 1
}

// counterBits is the size of the counter, and the number of future-key registers of a terminal.
func (s Scheme) counterBits() int {
	switch s {
	case TDES:
		return 21
	case AES:
		return 32
	}
	return 0
}

// maxOnes is the number of one bits a counter may have: the number of derivations a host does at most.
func (s Scheme) maxOnes() int {
	switch s {
	case TDES:
		return 10
	case AES:
		return 16
	}
	return 0
}

// ksnSize is the number of bytes of a KSN.
func (s Scheme) ksnSize() int {
	switch s {
	case TDES:
		return 10
	case AES:
		return 12
	}
	return 0
}

// counterMask has a one for each bit of the counter.
func (s Scheme) counterMask() uint32 {
	return uint32(uint64(1)<<s.counterBits() - 1)
}

// validCounter reports whether a terminal ever uses c. The largest such counter is 1FF800 or FFFF0000.
func (s Scheme) validCounter(c uint32) bool {
	return c != 0 && c&^s.counterMask() == 0 && bits.OnesCount32(c) <= s.maxOnes()
}

// nextCounter returns the valid counter after c, which is valid or 0, and 0 after the last one. A counter with all the one
// bits it may have is followed by the one that the addition of its lowest one bit gives.
func (s Scheme) nextCounter(c uint32) uint32 {
	step := uint32(1)
	if bits.OnesCount32(c) >= s.maxOnes() {
		step = c & -c
	}
	return (c + step) & s.counterMask()
}

// ordinal counts the valid counters up to c, which is valid or 0. For each one bit of c it counts the numbers that share
// the bits above and have a zero there: they may fill the lower places with the one bits left.
func (s Scheme) ordinal(c uint32) uint32 {
	n, left := uint32(0), s.maxOnes()
	for i := s.counterBits() - 1; i >= 0; i-- {
		if c>>i&1 == 1 {
			n += atMost[i][left]
			left--
		}
	}
	return n
}

// atOrdinal is the inverse of ordinal for 1..MaxOrdinal.
func (s Scheme) atOrdinal(n uint32) uint32 {
	c, left := uint32(0), s.maxOnes()
	for i := s.counterBits() - 1; i >= 0 && left > 0; i-- {
		if below := atMost[i][left]; n >= below {
			n -= below
			c |= 1 << i
			left--
		}
	}
	return c
}

// atMost[n][k] is how many numbers of n bits have at most k one bits.
var atMost = countAtMost()

func countAtMost() (t [33][17]uint32) {
	for n := range t {
		t[n][0] = 1
		for k := 1; k < len(t[n]); k++ {
			if n == 0 {
				t[n][k] = 1
				continue
			}
			t[n][k] = t[n-1][k] + t[n-1][k-1]
		}
	}
	return t
}
