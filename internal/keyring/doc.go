// Package keyring holds keys in software: key blocks in a folder under a local master key, and an engine over them.
//
// [Create] makes the folder, [Open] reads it, [Ring.Engine] works with the keys. The folder is mode 0700, its files 0600:
//
//	lmk.sealed          the local master key, random AES-256, sealed under the passphrase (internal/seal)
//	ID.key              one key: strict JSON around an X9.143 version D block under the local master key
//	NAME.N.secret       one named HMAC secret of the host, version N, in the same form
//	lock                held by whoever adds a file
//
// Every member of the JSON also stands inside the authenticated block, in its label (optional block LB), or is computed
// again from the key. So the environment, name, version and date of a key are attributes that nobody changes with an
// editor: Open refuses the whole folder, names the file, and decides nothing on what is left.
//
// Keys live in the memory of the process while the ring is open. This is no secure cryptographic device and never claims
// PCI PIN; its labels say "software" and "host-memory". Whoever can write the folder can bring back an older copy of it:
// the claims of the host, which are not kept here, are what replays are refused by.
package keyring
