// Package provision puts the registration authority together: registry, issuer, key-distribution host, listeners and
// metrics, from one [Config].
//
// [Run] is the whole life of latchkey-provisiond; the daemon and the demonstration share it. Four listeners are opened: for
// terminals (EST and initial keys), for operators and services (administration and the registry feed), one without TLS
// for what proves itself (trust list, revocation list), and one for health and metrics.
package provision
