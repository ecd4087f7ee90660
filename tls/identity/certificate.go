package identity

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Tags of GeneralName (RFC 5280, 4.2.1.6).
const (
	tagDNS = 2
	tagURI = 6
	tagIP  = 7
)

// FromCertificate returns the identity that a certificate claims: exactly one URI in its subject alternative name, the
// policy of that role in one of its spellings and no other, and host names or addresses only where the role serves. It reads the bytes of the
// extension, because a parsed URL has lost how it was spelled.
//
// It verifies no signature: call it for certificates of a verified chain, or use tlsconf.Peer. The error wraps
// ErrIdentity.
func FromCertificate(cert *x509.Certificate) (Identity, error) {
	if cert == nil {
		return Identity{}, fmt.Errorf("%w: no certificate", ErrIdentity)
	}
	names, err := alternativeNames(cert)
	if err != nil {
		return Identity{}, err
	}
	if len(names.uris) != 1 {
		return Identity{}, fmt.Errorf("%w: certificate has %d URIs, want one", ErrIdentity, len(names.uris))
	}
	id, err := ParseURI(names.uris[0])
	if err != nil {
		return Identity{}, err
	}
	if names.hosts > 0 && !id.Role.Server() {
		return Identity{}, fmt.Errorf("%w: a certificate of role %s names a host", ErrIdentity, id.Role)
	}
	if len(cert.Policies) != 1 || !Carries(cert, id.Role) {
		return Identity{}, fmt.Errorf("%w: certificate policies %v are not exactly that of role %s", ErrIdentity, cert.Policies, id.Role)
	}
	return id, nil
}

// Serial returns the serial number of a certificate as every part of latchkey spells it: lower-case hexadecimal, whole
// bytes, no leading zero bytes.
func Serial(cert *x509.Certificate) string { return hex.EncodeToString(cert.SerialNumber.Bytes()) }

type sans struct {
	uris  []string
	hosts int
}

func alternativeNames(cert *x509.Certificate) (sans, error) {
	var out sans
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSubjectAltName) {
			continue
		}
		var seq []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &seq); err != nil || len(rest) != 0 {
			return sans{}, fmt.Errorf("%w: damaged subject alternative name", ErrIdentity)
		}
		for _, v := range seq {
			switch {
			case v.Class != asn1.ClassContextSpecific:
				return sans{}, fmt.Errorf("%w: damaged subject alternative name", ErrIdentity)
			case v.Tag == tagURI:
				out.uris = append(out.uris, string(v.Bytes))
			case v.Tag == tagDNS || v.Tag == tagIP:
				out.hosts++
			default:
				return sans{}, fmt.Errorf("%w: alternative name of type %d", ErrIdentity, v.Tag)
			}
		}
	}
	return out, nil
}
