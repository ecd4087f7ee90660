// Package tlsconf builds every *tls.Config of the system, by who listens and who is let in.
//
// [Server] and [Client] are the whole of it. Both speak TLS 1.3 only, both ends show a certificate, and on every
// connection, resumed ones too, the peer is judged anew: its certificate must come from the authority of its role, its
// role must be one that is expected here, and the [Gate] must admit its serial number. [Peer] tells a handler who is at
// the other end. A [Credential] changes its certificate while configurations made from it are in use.
//
// [Connections] keeps the open connections of a listener and closes those whose peer the gate no longer admits.
package tlsconf
