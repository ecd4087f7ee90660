package est

import (
	"crypto/elliptic"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Attributes returns what a registration authority answers when it is asked how requests shall look (RFC 7030, 4.5.2): DER
// that asks for an EC key on this curve, one of P-256, P-384 and P-521. EncodeRequest makes a body of it.
func Attributes(curve elliptic.Curve) ([]byte, error) {
	for oid, known := range curves {
		if known != curve {
			continue
		}
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidECPublicKey)
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) { addOID(b, oid) })
			})
		})
		return b.Bytes()
	}
	return nil, errors.New("est: a curve that is none of P-256, P-384 and P-521")
}

func addOID(b *cryptobyte.Builder, oid string) {
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
}

// ParseAttributes reads such DER and returns the curve that keys shall be on. It skips what else is asked for, as RFC 7030
// wants of clients: an authority that must have it refuses the request. Errors wrap ErrFormat, when there is not exactly
// one curve too.
func ParseAttributes(der []byte) (elliptic.Curve, error) {
	wrong := malformed("not request attributes")
	if len(der) > MaxRequest {
		return nil, wrong
	}
	var list cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&list, asn1.SEQUENCE) || !input.Empty() {
		return nil, wrong
	}
	var curve elliptic.Curve
	for !list.Empty() {
		if list.PeekASN1Tag(asn1.OBJECT_IDENTIFIER) {
			var oid cryptobyte.String
			if !list.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
				return nil, wrong
			}
			continue
		}
		var attribute, oid, values, named cryptobyte.String
		if !list.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, asn1.SET) || !attribute.Empty() {
			return nil, wrong
		}
		if string(oid) != oidECPublicKey {
			continue
		}
		if curve != nil || !values.ReadASN1(&named, asn1.OBJECT_IDENTIFIER) || !values.Empty() || curves[string(named)] == nil {
			return nil, malformed("the authority asks for keys on no curve that is known here, or on several")
		}
		curve = curves[string(named)]
	}
	if curve == nil {
		return nil, malformed("the authority names no curve for keys")
	}
	return curve, nil
}
