package est

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/smallstep/pkcs7"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// maxCerts is more than any chain of ours and every root of a trust list beside it.
const maxCerts = 16

// EncodeCerts returns the body of an answer that carries certificates: base64, in lines of 64 columns, of a PKCS #7 that
// holds 1 to 16 certificates in the order given and nothing else (RFC 7030, 4.1.3).
func EncodeCerts(certs []*x509.Certificate) ([]byte, error) {
	if len(certs) < 1 || len(certs) > maxCerts || slices.Contains(certs, nil) {
		return nil, fmt.Errorf("est: %d certificates or none among them, want 1 to %d", len(certs), maxCerts)
	}
	var raw []byte
	for _, c := range certs {
		raw = append(raw, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("est: %w", err)
	}
	body := encode(der)
	if len(body) > MaxBody {
		return nil, fmt.Errorf("est: certificates of %d bytes, want at most %d", len(body), MaxBody)
	}
	return body, nil
}

// DecodeCerts reads a body that carries certificates and nothing else, neither content nor signers nor revocation lists.
// They come in the order of the message; no signature on any of them has been verified. Errors wrap ErrFormat.
func DecodeCerts(body []byte) ([]*x509.Certificate, error) {
	der, err := decode(body)
	if err != nil {
		return nil, err
	}
	raw, err := certsOnly(der)
	if err != nil {
		return nil, err
	}
	certs, err := x509.ParseCertificates(raw)
	if err != nil {
		return nil, malformed("a certificate cannot be read")
	}
	if len(certs) < 1 || len(certs) > maxCerts {
		return nil, malformed("no certificate, or too many")
	}
	return certs, nil
}

// Object identifiers of RFC 2315, section 14, as DER has them behind tag and length.
var (
	oidData       = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01}
	oidSignedData = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
)

var (
	contextZero = asn1.Tag(0).ContextSpecific().Constructed()
	contextOne  = asn1.Tag(1).ContextSpecific().Constructed()
)

// certsOnly returns the certificates in the degenerate case of SignedData (RFC 2315, 9.1; RFC 5652, 5.1): version 1 and
// every other part empty. The reader of package pkcs7 does not serve here: it takes BER, skips what it cannot read, and
// does not care what follows.
func certsOnly(der []byte) ([]byte, error) {
	wrong := malformed("not a PKCS #7 of certificates only")
	var info, explicit, signed, algorithms, content, certs, revoked, signers cryptobyte.String
	outer := cryptobyte.String(der)
	if !outer.ReadASN1(&info, asn1.SEQUENCE) || !readOID(&info, oidSignedData) ||
		!info.ReadASN1(&explicit, contextZero) || !info.Empty() ||
		!explicit.ReadASN1(&signed, asn1.SEQUENCE) || !explicit.Empty() {
		return nil, wrong
	}
	var version int
	if !signed.ReadASN1Integer(&version) || version != 1 ||
		!signed.ReadASN1(&algorithms, asn1.SET) || !algorithms.Empty() ||
		!signed.ReadASN1(&content, asn1.SEQUENCE) || !readOID(&content, oidData) || !content.Empty() ||
		!signed.ReadASN1(&certs, contextZero) ||
		!signed.ReadOptionalASN1(&revoked, nil, contextOne) || !revoked.Empty() || // empty, or absent
		!signed.ReadASN1(&signers, asn1.SET) || !signers.Empty() || !signed.Empty() {
		return nil, wrong
	}
	if !outer.Empty() && !planted.On(planted.ParseEST) {
		return nil, malformed("something follows the certificates")
	}
	return certs, nil
}

// readOID reads an object identifier and reports whether it is this one.
func readOID(s *cryptobyte.String, want []byte) bool {
	var got cryptobyte.String
	return s.ReadASN1(&got, asn1.OBJECT_IDENTIFIER) && bytes.Equal(got, want)
}
