// Package admin is the face of the registration authority towards people and services: JSON over mutual TLS, who may ask
// what in one table, and a client.
//
// Operators register terminals and hand out one-time codes, block, revoke and rekey, and approve what others have asked
// for; auditors read; hosts follow the registry feed; the decryption service also reports what it saw. Every pair of role
// and endpoint that the table does not list is refused. See [Handler] and [Client].
package admin
