package tlsconf

import (
	"crypto/tls"
	"fmt"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Peer returns who is at the other end of a finished handshake, and the serial number of its certificate as spelled by
// identity.Serial. It takes the connection state of a configuration made here; a state without a verified chain, such as
// that of a plain connection, is an error that wraps ErrRefused.
func Peer(cs tls.ConnectionState) (identity.Identity, string, error) {
	if !cs.HandshakeComplete {
		return identity.Identity{}, "", fmt.Errorf("%w: handshake is not complete", ErrRefused)
	}
	return verified(cs)
}

// judge decides on a peer whose chain crypto/tls has verified, in this handshake or in the one that is resumed.
func judge(cs tls.ConnectionState, trust Trust, gate Gate, expected func(identity.Identity) error) error {
	id, serial, err := verified(cs)
	if err != nil {
		return err
	}
	if err := expected(id); err != nil {
		return err
	}
	if err := trust.belongsAny(cs.VerifiedChains, id.Role); err != nil {
		return err
	}
	if err := gate.Admit(id, serial); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

func verified(cs tls.ConnectionState) (identity.Identity, string, error) {
	if len(cs.VerifiedChains) == 0 || len(cs.PeerCertificates) == 0 {
		return identity.Identity{}, "", fmt.Errorf("%w: no verified certificate chain", ErrRefused)
	}
	leaf := cs.PeerCertificates[0]
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return identity.Identity{}, "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return id, identity.Serial(leaf), nil
}
