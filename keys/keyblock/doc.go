// Package keyblock wraps keys in ANSI X9.143 key blocks (once TR-31): a readable header bound by a MAC to an encrypted key.
//
// [Protector.Wrap] writes version D under an AES key and version B under a TDES key, the two of the key derivation binding
// method. [Protector.Unwrap] reads them, and under a TDES key also the deprecated versions A and C of the key variant
// binding method. It believes nothing of the header before the MAC has been verified; [Inspect] reads a header without a
// key, for display only. [Protector.Rewrap] moves a key from one protection key to another.
//
// Writing is strict and reading is lenient: what other systems write against the standard, and harms nobody, is read with a
// [Warning]. Everything else is refused with [ErrBlock]. What a warning tells of is never written: versions, lengths and padding are
// put right, the rest is [ErrHeader], [ErrOptional], [ErrKey] or [ErrStrength].
//
// A key block protects a key on its way and at rest under a key block protection key (KBPK). It does not say who made it,
// nor when. Versions A and C bind with a MAC of 32 bits under a key that differs from the encryption key by a constant: read
// them to replace them. Clauses are those of ANSI X9.143-2021.
package keyblock
