package hsm

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/asn1"
	"fmt"
)

// paramsEd25519 names the curve in CKA_EC_PARAMS (RFC 8410).
var paramsEd25519 = must(asn1.Marshal(asn1.ObjectIdentifier{1, 3, 101, 112}))

// kindEdwards is a key pair of Ed25519.
var kindEdwards = pairKind{mechanism: mechEdKeyPair, keyType: typeEdwards, params: paramsEd25519}

// GenerateEd25519 is GenerateSigner for a key pair of Ed25519. A token without CKM_EDDSA fails with dukpt.ErrUnsupported.
func (t *Token) GenerateEd25519(ctx context.Context, name string) (crypto.Signer, error) {
	return t.generatePair(ctx, name, kindEdwards)
}

// edwards is a private key of Ed25519 as one connection has it: the binding for signers knows none.
type edwards struct {
	private object
	public  ed25519.PublicKey
}

// findEdwards returns a private key of Ed25519 with the public key beside it, and nil for a key of another type.
func findEdwards(d cryptoki, s session, private object) (*edwards, error) {
	got, err := d.attributes(s, private, []uint{attrKeyType, attrLabel, attrID})
	if err != nil {
		return nil, err
	}
	if typ, ok := got[0].asNumber(); !ok || typ != typeEdwards {
		return nil, nil
	}
	found, err := d.findObjects(s, []attribute{number(attrClass, classPublic), number(attrKeyType, typeEdwards), got[1], got[2]}, 2)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%w: %d public keys belong to the private one", ErrAmbiguous, len(found))
	}
	point, err := d.attributes(s, found[0], []uint{attrECPoint})
	if err != nil {
		return nil, err
	}
	public, err := pointEdwards(point[0].bytes)
	if err != nil {
		return nil, err
	}
	return &edwards{private, public}, nil
}

// pointEdwards reads CKA_EC_POINT of Ed25519: the point alone, or in an OCTET STRING, as PKCS#11 2.40 says of other curves.
func pointEdwards(told []byte) (ed25519.PublicKey, error) {
	point := told
	if len(told) != ed25519.PublicKeySize {
		if rest, err := asn1.Unmarshal(told, &point); err != nil || len(rest) > 0 || len(point) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: the public key is none of Ed25519", ErrAttributes)
		}
	}
	return ed25519.PublicKey(point), nil
}

// Public returns the public key.
func (e *edwards) Public() crypto.PublicKey { return e.public }

// sign signs a message, in a session. The signature is verified: whoever reads it has nothing else to go by.
func (e *edwards) sign(d cryptoki, s session, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != 0 {
		return nil, fmt.Errorf("%w: Ed25519 signs messages, not digests", ErrAttributes)
	}
	signature, err := d.sign(s, mechanism{code: mechEdDSA}, e.private, message)
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(e.public, message, signature) {
		return nil, unavailable(errAnswer)
	}
	return signature, nil
}
