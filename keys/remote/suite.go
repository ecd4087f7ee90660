package remote

import (
	"crypto"
	"crypto/ecdh"
	"fmt"

	"github.com/latchkey-pos/latchkey/keys"
)

// Suite is a curve with the hash that goes with it. The algorithm of a key set decides which one delivers its keys, so that
// what carries a key is as strong as the key.
type Suite uint8

// The suites.
const (
	SuiteP256 Suite = iota + 1 // with SHA-256, for TDES and AES-128
	SuiteP384                  // with SHA-384, for AES-192
	SuiteP521                  // with SHA-512, for AES-256
)

var suites = map[Suite]struct {
	name  string
	curve ecdh.Curve
	hash  crypto.Hash
}{
	SuiteP256: {"P-256", ecdh.P256(), crypto.SHA256},
	SuiteP384: {"P-384", ecdh.P384(), crypto.SHA384},
	SuiteP521: {"P-521", ecdh.P521(), crypto.SHA512},
}

// SuiteFor returns the suite for initial keys of an algorithm. Another algorithm than one of DUKPT is an error.
func SuiteFor(a keys.Algorithm) (Suite, error) {
	switch a {
	case keys.TDES2, keys.AES128:
		return SuiteP256, nil
	case keys.AES192:
		return SuiteP384, nil
	case keys.AES256:
		return SuiteP521, nil
	}
	return 0, fmt.Errorf("remote: no suite delivers initial keys of %v", a)
}

// Curve returns the curve of both agreement keys, nil for no suite.
func (s Suite) Curve() ecdh.Curve { return suites[s].curve }

// String returns the name of the curve: P-256, P-384 or P-521.
func (s Suite) String() string {
	if row, ok := suites[s]; ok {
		return row.name
	}
	return fmt.Sprintf("Suite(%d)", uint8(s))
}
