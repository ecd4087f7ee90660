// Package keyblock wraps keys in ANSI X9.143 key blocks (once TR-31): a readable header bound by a MAC to an encrypted key.
//
// [Protector.Wrap] writes version D, the key derivation binding method with AES. [Protector.Unwrap] reads it, and believes
// nothing of the header before the MAC has been verified; [Inspect] reads a header without a key, for display only.
// Versions A, B and C are refused with [ErrVersion].
//
// A key block protects a key on its way and at rest under a key block protection key (KBPK). It does not say who made it,
// nor when.
package keyblock
