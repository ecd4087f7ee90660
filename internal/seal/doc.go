// Package seal keeps small secret files encrypted under a passphrase.
//
// [Seal] derives a key from the passphrase by Argon2id (RFC 9106) and encrypts with AES-256-GCM; [Open] reverses it. The
// form is one deterministic CBOR map {v, kdf{m, p, t, alg, salt}, label, nonce, ciphertext} with the label as associated
// data. [ReadPassphrase] takes a passphrase from a file that only its owner can read, and [WriteFile] replaces files
// durably.
//
// It protects a stolen disk or backup as far as the passphrase is good. It does not protect against whoever can read the
// passphrase file or the memory of the process, and it is no secure cryptographic device in the sense of PCI PIN.
package seal
