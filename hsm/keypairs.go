package hsm

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/latchkey-pos/latchkey/dukpt"
)

// pair makes a key pair for one use, and returns the public point as the token tells it.
func (p *prober) pair(kind pairKind, u use) (private object, point []byte, err error) {
	public := []attribute{
		number(attrClass, classPublic), number(attrKeyType, kind.keyType), flag(attrToken, false), {attrECParams, kind.params},
		flag(attrVerify, u == useSign),
	}
	secretly := []attribute{
		number(attrClass, classPrivate), number(attrKeyType, kind.keyType), flag(attrToken, false), flag(attrPrivate, true),
		flag(attrSensitive, true), flag(attrExtractable, false), flag(attrSign, u == useSign), flag(attrDerive, u == useDerive),
	}
	pub, private, err := p.device.generateKeyPair(p.session, mechanism{code: kind.mechanism}, public, secretly)
	if err != nil {
		return 0, nil, err
	}
	p.made = append(p.made, pub, private)
	got, err := p.device.attributes(p.session, pub, []uint{attrECPoint})
	if err != nil {
		return 0, nil, err
	}
	return private, got[0].bytes, nil
}

// pairP256 makes a key pair of P-256, and returns the public point, which is in an OCTET STRING.
func (p *prober) pairP256(u use) (private object, point []byte, err error) {
	private, told, err := p.pair(pairKind{mechECKeyPair, typeEC, paramsP256}, u)
	if err != nil {
		return 0, nil, err
	}
	if rest, err := asn1.Unmarshal(told, &point); err != nil || len(rest) > 0 {
		return 0, nil, errAnswer
	}
	return private, point, nil
}

// ecdh agrees on a key with the host, and encrypts zeros under it.
func (p *prober) ecdh() error {
	private, point, err := p.pairP256(useDerive)
	if err != nil {
		return err
	}
	theirs, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return errAnswer
	}
	ours, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	z, err := ours.ECDH(theirs)
	if err != nil {
		return err
	}
	m := mechanism{code: mechECDH, public: ours.PublicKey().Bytes()}
	key, err := p.keep(p.device.deriveKey(p.session, m, private, p.shape.child(dukpt.KeyAES256, useEncrypt)))
	if err != nil {
		return err
	}
	want := make([]byte, 16)
	inAES(z).Encrypt(want, want)
	got, err := p.device.encrypt(p.session, mechanism{code: mechAESECB}, key, make([]byte, 16))
	return same(got, want, err)
}

// sign signs a digest, and has the host verify.
func (p *prober) sign() error {
	private, point, err := p.pairP256(useSign)
	if err != nil {
		return err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return errAnswer
	}
	digest := sha256.Sum256(probeText)
	signature, err := p.device.sign(p.session, mechanism{code: mechECDSA}, private, digest[:])
	if err != nil {
		return err
	}
	if len(signature) != 64 {
		return fmt.Errorf("%w: a signature of %d bytes", errAnswer, len(signature))
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(public, digest[:], r, s) {
		return errAnswer
	}
	return nil
}

// signEdwards signs a message under a key of Ed25519, and has the host verify.
func (p *prober) signEdwards() error {
	private, told, err := p.pair(kindEdwards, useSign)
	if err != nil {
		return err
	}
	public, err := pointEdwards(told)
	if err != nil {
		return errAnswer
	}
	signature, err := p.device.sign(p.session, mechanism{code: mechEdDSA}, private, probeText)
	if err != nil {
		return err
	}
	if !ed25519.Verify(public, probeText, signature) { // of another length, too
		return errAnswer
	}
	return nil
}
