// Package tlsconf builds every *tls.Config of the system, by who listens and who is let in.
//
// [Server] and [Client] are the whole of it between our own. Both speak TLS 1.3 only, both ends show a certificate, and on every
// connection, resumed ones too, the peer is judged anew: its certificate must come from the authority of its role, its
// role must be one that is expected here, and the [Gate] must admit its serial number. [Peer] tells a handler who is at
// the other end. A [Credential] changes its certificate while configurations made from it are in use.
//
// [LegacyServer] is the one exception: enrolment for terminals whose TLS ends with 1.2.
//
// [Outside] is for servers that are none of ours: a Vault.
//
// [Connections] keeps the open connections of a listener and closes those whose peer the gate no longer admits.
package tlsconf
