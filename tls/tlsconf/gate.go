package tlsconf

import "github.com/latchkey-pos/latchkey/tls/identity"

// Gate has the last word on a peer whose certificate verifies: it knows which serial numbers are current, revoked or
// unknown. Admit returns nil to let the peer in; its error is not shown to the peer. It is called in every handshake,
// from many goroutines, and should answer from memory. The serial is spelled as by identity.Serial.
type Gate interface {
	Admit(id identity.Identity, serial string) error
}

// GateFunc is a function that serves as a Gate.
type GateFunc func(id identity.Identity, serial string) error

// Admit calls the function.
func (f GateFunc) Admit(id identity.Identity, serial string) error { return f(id, serial) }

// OpenGate returns the gate that admits everyone. It has a name because a configuration without a gate is refused: where
// nothing can be revoked, that is to be seen.
func OpenGate() Gate {
	return GateFunc(func(identity.Identity, string) error { return nil })
}
