package keys

import "fmt"

// Algorithm is a symmetric algorithm together with its key length. The zero value is no algorithm.
type Algorithm uint8

// The algorithms, with the names of ANSI X9.24-3.
const (
	TDES2   Algorithm = iota + 1 // 2TDEA, 16 bytes
	TDES3                        // 3TDEA, 24 bytes
	AES128                       // 16 bytes
	AES192                       // 24 bytes
	AES256                       // 32 bytes
	HMAC128                      // HMAC under a 16-byte key
	HMAC192                      // HMAC under a 24-byte key
	HMAC256                      // HMAC under a 32-byte key
)

var algorithms = map[Algorithm]struct {
	name           string
	bytes          int
	strength       int
	letter         byte
	aes, tdes, mac bool
}{
	TDES2:   {"2TDEA", 16, 80, 'T', false, true, false},
	TDES3:   {"3TDEA", 24, 112, 'T', false, true, false},
	AES128:  {"AES-128", 16, 128, 'A', true, false, false},
	AES192:  {"AES-192", 24, 192, 'A', true, false, false},
	AES256:  {"AES-256", 32, 256, 'A', true, false, false},
	HMAC128: {"HMAC-128", 16, 128, 'H', false, false, true},
	HMAC192: {"HMAC-192", 24, 192, 'H', false, false, true},
	HMAC256: {"HMAC-256", 32, 256, 'H', false, false, true},
}

// ParseAlgorithm returns the algorithm called name, as String writes it.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a, row := range algorithms {
		if row.name == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("keys: unknown algorithm %q", name)
}

// String returns the name: 2TDEA, 3TDEA, AES-128, …
func (a Algorithm) String() string {
	if row, ok := algorithms[a]; ok {
		return row.name
	}
	return fmt.Sprintf("Algorithm(%d)", uint8(a))
}

// IsValid reports whether a is one of the algorithms.
func (a Algorithm) IsValid() bool { _, ok := algorithms[a]; return ok }

// KeyBytes returns the length of a key in bytes; 0 for no algorithm.
func (a Algorithm) KeyBytes() int { return algorithms[a].bytes }

// StrengthBits returns the effective strength in bits as NIST SP 800-57 part 1 counts it: 80 for 2TDEA, 112 for 3TDEA.
func (a Algorithm) StrengthBits() int { return algorithms[a].strength }

// Letter returns the algorithm letter of a key block header (ANSI X9.143): T, A or H; 0 for no algorithm.
func (a Algorithm) Letter() byte { return algorithms[a].letter }

// IsAES reports whether a is AES.
func (a Algorithm) IsAES() bool { return algorithms[a].aes }

// IsTDES reports whether a is TDES.
func (a Algorithm) IsTDES() bool { return algorithms[a].tdes }

// IsHMAC reports whether a is HMAC.
func (a Algorithm) IsHMAC() bool { return algorithms[a].mac }

// MarshalText writes the name.
func (a Algorithm) MarshalText() ([]byte, error) {
	if !a.IsValid() {
		return nil, fmt.Errorf("keys: unknown algorithm %d", uint8(a))
	}
	return []byte(a.String()), nil
}

// UnmarshalText reads the name.
func (a *Algorithm) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAlgorithm(string(b))
	return err
}
