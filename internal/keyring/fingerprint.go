package keyring

import (
	"bytes"
	"math/bits"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// fingerprint recognises a key under every spelling of its bytes. TDES ignores the lowest bit of every byte, so a key
// with other parity bits is the same key, derives the same terminal keys, and must not count as another one: its claims
// would start from nothing. For the same reason a triple-length key with equal outer parts is its double-length one.
func fingerprint(k keys.Key, under secret.Bytes) keys.Fingerprint {
	a := k.Attributes()
	if !a.Algorithm.IsTDES() {
		return k.Fingerprint(under)
	}
	plain := k.Material().Clone()
	defer plain.Wipe()
	b := plain.Expose()
	for i, v := range b {
		b[i] = v&0xfe | byte(bits.OnesCount8(v&0xfe)&1^1)
	}
	if len(b) == 24 && bytes.Equal(b[:8], b[16:]) {
		a.Algorithm, b = keys.TDES2, b[:16]
	}
	same, err := keys.NewKey(a, b)
	if err != nil {
		return k.Fingerprint(under) // cannot be: a parity-adjusted key is as good as the key
	}
	defer same.Wipe()
	return same.Fingerprint(under)
}
