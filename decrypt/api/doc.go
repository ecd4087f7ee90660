// Package api is what a customer's host says to latchkey-decryptd: the JSON of its endpoints and a client for them.
//
// [Client.Transaction] hands over a terminal's message as received and gets back what was decrypted and translated;
// [Client.Answer] records the host's decision and gets back the acknowledgement bytes for the terminal. The client needs
// an http.Client whose transport speaks mutual TLS with a certificate of role acquirer-host; package tls/tlsconf makes
// the configuration.
//
// Reading is strict on both sides: unknown, repeated and wrong-case members, null, bytes after the object and bodies
// beyond [MaxBody] and [MaxResponse] are refused, and empty strings in requests. The answers carry card data in the clear where the key set releases it: what this package
// returns must not be logged.
package api
