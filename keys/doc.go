// Package keys is the symmetric payment key: its bytes, and the attributes that say what it may do.
//
// A [Key] exists only if it is valid: the length fits the algorithm, the usage fits the algorithm, a TDES key has no equal
// parts. Its attributes are those of an ANSI X9.143 key block header, bound when the key is made. A key that comes into use
// here, from [GenerateKey] or [ImportKey], is no weak key of DES either. [Key.KCV] is the check value that custodians compare,
// [Key.CheckValue] that of another kind; [Key.Fingerprint] recognises the same key under another name without telling the key.
//
// In the clear a key leaves and comes only as components that nobody has all of (ANSI X9.24-1:2017, 7.2; PCI PIN v3.1, 21-1):
// [Split] makes the sheets of the custodians, [Combine] makes the key of them again and refuses what is not right, by
// component. [ParseSheet] and [ParseComponent] read what they bring.
//
// A key does not print, nor does a component: the bytes are a [secret.Bytes]. The package does not store keys, and does not
// protect them from whoever reads the memory of the process.
//
// [secret.Bytes]: https://pkg.go.dev/github.com/latchkey-pos/latchkey/internal/secret
package keys
