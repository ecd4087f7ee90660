// Package keydist puts the key-distribution host together: base keys, key sets, issuer, store, listeners and metrics, from
// one [Config].
//
// [Run] is the whole life of latchkey-keyd; the daemon and the demonstration share it. Two listeners are opened: one for
// the registration authority over mutual TLS, and one for operators with liveness, readiness and metrics.
package keydist
