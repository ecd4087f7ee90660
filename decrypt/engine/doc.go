// Package engine is the seam between the host operations and the place where keys live.
//
// [Engine.Begin] opens one DUKPT transaction under a base key named by reference; the [HostOps] it returns carry the
// host role: translate a PIN block, decrypt data, check a MAC, and make the answers for the terminal. No operation
// returns a key or a PIN. Engines are the software keyring, PKCS#11 tokens and payment HSMs; each passes the suite in
// decrypt/engine/enginetest.
//
// Every engine says by its [Labels] how keys are held. The labels describe; they protect nothing: an engine labelled
// software keeps keys in the memory of the host and never claims PCI PIN.
package engine
