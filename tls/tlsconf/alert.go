package tlsconf

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
)

// certificateAlerts are those by which a server refuses the certificate of a client (RFC 8446, 6.2).
var certificateAlerts = []tls.AlertError{
	42,  // bad_certificate
	43,  // unsupported_certificate
	44,  // certificate_revoked
	45,  // certificate_expired
	46,  // certificate_unknown
	48,  // unknown_ca
	49,  // access_denied
	116, // certificate_required
}

// Alert reports whether a call ended with an alert of TLS that the peer sent.
func Alert(err error) bool { return alert(err) != nil }

// CertificateRefused reports whether a call ended with the alert of a server that does not take the certificate of the
// client, or wants one.
func CertificateRefused(err error) bool {
	received := alert(err)
	return received != nil && slices.ContainsFunc(certificateAlerts, func(a tls.AlertError) bool {
		return received.Error() == a.Error() // crypto/tls does not export the type of an alert that came in
	})
}

// alert returns the alert that the peer sent, nil if none did.
func alert(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return nil
	}
	return op.Err
}
