package keys

import "github.com/latchkey-pos/latchkey/internal/secret"

// Secret is a secret byte string, as every package here takes and returns it: it can be wiped, copies share one content,
// and no way of printing or encoding shows it. The name stands here for those who use these packages from another module:
// a Sealer of a terminal maker returns it, card data and passphrases are handed over as it.
type Secret = secret.Bytes

// NewSecret returns a secret copy of b. The caller still owns b, and wipes it.
func NewSecret(b []byte) Secret { return secret.From(b) }
