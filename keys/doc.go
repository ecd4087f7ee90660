// Package keys is the symmetric payment key: its bytes, and the attributes that say what it may do.
//
// A [Key] exists only if it is valid: the length fits the algorithm, the usage fits the algorithm, a TDES key has no equal
// parts. Its attributes are those of an ANSI X9.143 key block header, bound when the key is made. [Key.KCV] is the check
// value that custodians compare; [Key.Fingerprint] recognises the same key under another name without telling the key.
//
// A key does not print: its bytes are a [secret.Bytes]. The package does not store keys, and does not protect them from
// whoever reads the memory of the process.
//
// [secret.Bytes]: https://pkg.go.dev/github.com/latchkey-pos/latchkey/internal/secret
package keys
