// Package decrypt puts the decryption service together: keys, store, catalog, listeners and metrics, from one [Config].
//
// [Run] is the whole life of latchkey-decryptd; the daemon and the demonstration share it. Two listeners are opened: one
// for acquirer hosts over mutual TLS, and one for operators with liveness, readiness and metrics. Key sets come from the
// deployment folder, and terminals too, or else from the feed of a registration authority, which is told what is observed.
// Handlers translate between the JSON of package decrypt/api and the values of package decrypt, and decide nothing but who
// is asking.
package decrypt
