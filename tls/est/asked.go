package est

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Attributes of requests (RFC 2985, 5.4), as DER has them behind tag and length.
const (
	oidChallengePassword = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"
	oidExtensionRequest  = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"
)

// maxChallenge is the upper bound of a challengePassword (RFC 2985, 5.4.1).
const maxChallenge = 255

// checkAttributes refuses attributes that ask for more than the identity. Each may be there once, with one value.
func (p Policy) checkAttributes(attributes cryptobyte.String) error {
	seen := make(map[string]bool)
	for !attributes.Empty() {
		var attribute, oid, values, value cryptobyte.String
		var tag asn1.Tag
		if !attributes.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, asn1.SET) || !attribute.Empty() || !values.ReadAnyASN1(&value, &tag) {
			return malformed("an attribute cannot be read")
		}
		if seen[string(oid)] || !values.Empty() {
			return refused("an attribute is there twice")
		}
		seen[string(oid)] = true
		switch string(oid) {
		case oidChallengePassword:
			if !isText(tag) || len(value) > maxChallenge {
				return refused("the challengePassword is not a text of at most 255 bytes")
			}
		case oidExtensionRequest:
			if tag != asn1.SEQUENCE || value.Empty() {
				return malformed("the extensions cannot be read")
			}
			if err := checkExtensions(value, permitted(p.Identity)); err != nil {
				return err
			}
		default:
			return refused("an attribute is neither a challengePassword nor an extension request")
		}
	}
	return nil
}

// isText reports whether a tag is one of the strings that challenge passwords come in.
func isText(tag asn1.Tag) bool {
	return tag == asn1.UTF8String || tag == asn1.PrintableString || tag == asn1.IA5String || tag == asn1.T61String
}

// checkExtensions refuses extensions whose value is any other than the permitted one. Each may be there once.
func checkExtensions(extensions cryptobyte.String, permitted map[string]extension) error {
	seen := make(map[string]bool)
	for !extensions.Empty() {
		var ext, oid, value cryptobyte.String
		if !extensions.ReadASN1(&ext, asn1.SEQUENCE) || !ext.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
			return malformed("the extensions cannot be read")
		}
		if ext.PeekASN1Tag(asn1.BOOLEAN) {
			var critical bool
			if !ext.ReadASN1Boolean(&critical) || !critical { // DER leaves the default out
				return malformed("the extensions cannot be read")
			}
		}
		if !ext.ReadASN1(&value, asn1.OCTET_STRING) || !ext.Empty() {
			return malformed("the extensions cannot be read")
		}
		if seen[string(oid)] {
			return refused("an extension is there twice")
		}
		seen[string(oid)] = true
		want, ok := permitted[string(oid)]
		if !ok {
			return refused("an extension is none of subjectAltName, keyUsage, extendedKeyUsage and basicConstraints: leave it out")
		}
		if !bytes.Equal(value, want.value) {
			return refused(want.text)
		}
	}
	return nil
}

// extension is the only value that an extension may ask for, and what to say about any other.
type extension struct {
	value []byte // DER
	text  string
}

// Extensions of certificates (RFC 5280, 4.2.1), as DER has them behind tag and length.
const (
	oidKeyUsage         = "\x55\x1d\x0f"
	oidSubjectAltName   = "\x55\x1d\x11"
	oidBasicConstraints = "\x55\x1d\x13"
	oidExtKeyUsage      = "\x55\x1d\x25"
)

// permitted returns the extensions that a request for the identity may have, each with its only value. DER has one
// spelling of a value, so that comparing bytes compares what they say.
func permitted(id identity.Identity) map[string]extension {
	uri := id.String() // at most 92 bytes: every length below fits in one
	out := map[string]extension{
		oidSubjectAltName: {
			value: append([]byte{0x30, byte(len(uri) + 2), 0x86, byte(len(uri))}, uri...),
			text:  "subjectAltName must hold the identity as one URI and nothing else, or be left out",
		},
		oidBasicConstraints: {value: []byte{0x30, 0}, text: "basicConstraints must be CA:FALSE, or be left out"},
		oidKeyUsage:         {value: []byte{0x03, 2, 7, 0x80}, text: "keyUsage must be digitalSignature alone, or be left out"},
		oidExtKeyUsage:      {text: "extendedKeyUsage must be left out"},
	}
	if id.Role == identity.Agreement {
		out[oidKeyUsage] = extension{value: []byte{0x03, 2, 3, 0x08}, text: "keyUsage must be keyAgreement alone, or be left out"}
	}
	if id.Role.Client() {
		out[oidExtKeyUsage] = extension{
			value: []byte{0x30, 10, 0x06, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2},
			text:  "extendedKeyUsage must be clientAuth alone, or be left out",
		}
	}
	return out
}
