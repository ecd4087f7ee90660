// Package remote delivers an initial key from a key-distribution host to a terminal.
//
// The terminal has a key-agreement key with a certificate, and an open TLS connection with another certificate. It sends a
// [Request] with a nonce. The registration authority adds what it knows and asks the key-distribution host (KDH) with an
// [Order]. The KDH derives the key, and [Seal] wraps it: an ephemeral key agrees with the terminal's (NIST SP 800-56A,
// C(1e,1s)), a one-step KDF gives a key block protection key, and the KDH signs the block. The [Delivery] goes back
// unchanged, and [Open] gives the terminal its key, or an error and nothing.
//
// What both ends know of the session, the [Binding], is never sent. It goes into the derivation and under the signature
// with everything else of the delivery: a block for another terminal, slot, key set, environment, connection or request
// opens nowhere.
//
// The package decides neither who gets a key nor which key id comes next, nor does it remember anything: that is
// tls/provision and tls/keydist. It verifies the certificate of the KDH, not that of the terminal, whose chain the KDH
// verifies. A KDH that gives away what it derives is beyond its help.
//
// The formats stand in docs/protocol.md, section 9.
package remote
