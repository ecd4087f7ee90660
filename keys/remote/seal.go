package remote

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Seal wraps an initial key for the terminal of a binding and signs the result: what a key-distribution host does that has
// the key in its memory. The certificates of the binding are verified by the caller. chain is that of signer, leaf first,
// without the root, with the role kdh of the tenant. issuedAt is cut to seconds. The initial key is neither kept nor wiped. A
// delivery that Open would refuse for what it says is an error, as far as that is known here.
func Seal(b Binding, set *keyset.KeySet, replaces dukpt.KeyID, ik *dukpt.InitialKey, issuedAt time.Time,
	signer crypto.Signer, chain []*x509.Certificate,
) (*Delivery, error) {
	if ik == nil {
		return nil, errors.New("remote: seal: no initial key")
	}
	d, _, err := SealBlock(context.Background(), given{ik}, b, set, ik.KeyID(), replaces, issuedAt, signer, chain)
	return d, err
}

// SealBlock is Seal with the initial key of id and its block from a maker. It also returns the check value of the key, as soon as
// it is known.
func SealBlock(ctx context.Context, maker BlockMaker, b Binding, set *keyset.KeySet, id, replaces dukpt.KeyID, issuedAt time.Time,
	signer crypto.Signer, chain []*x509.Certificate,
) (*Delivery, keys.KCV, error) {
	s, d, err := prepare(b, set, id, replaces, issuedAt, signer, chain)
	if err != nil {
		return nil, keys.KCV{}, fmt.Errorf("remote: seal: %w", err)
	}
	kcv, err := s.seal(ctx, d, maker, signer)
	if err != nil {
		return nil, kcv, fmt.Errorf("remote: seal: %w", err)
	}
	if _, err := d.parse(); err != nil {
		return nil, kcv, fmt.Errorf("remote: seal: %w", err)
	}
	return d, kcv, nil
}

// prepare checks what SealBlock was given and fills in all of the delivery that needs no secret.
func prepare(b Binding, set *keyset.KeySet, id, replaces dukpt.KeyID, issuedAt time.Time,
	signer crypto.Signer, chain []*x509.Certificate,
) (*session, *Delivery, error) {
	if set == nil || signer == nil || len(chain) == 0 {
		return nil, nil, errors.New("no key set, signer or chain")
	}
	if err := b.validate(); err != nil {
		return nil, nil, err
	}
	payload, err := keyset.Marshal(set)
	if err != nil {
		return nil, nil, err
	}
	suite, err := deliverable(set, id)
	if err != nil {
		return nil, nil, err
	}
	if set.Tenant != b.Tenant {
		return nil, nil, fmt.Errorf("key set %s is of tenant %s, want %s", set.ID, set.Tenant, b.Tenant)
	}
	if err := checkKDH(chain[0], b.Tenant); err != nil {
		return nil, nil, err
	}
	if pub, ok := chain[0].PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(signer.Public()) {
		return nil, nil, errors.New("the certificate is not that of the signer")
	}
	d := &Delivery{KeySet: payload, KeyID: id, Replaces: replaces, IssuedAt: issuedAt.UTC().Truncate(time.Second)}
	for _, c := range chain {
		d.Certificates = append(d.Certificates, c.Raw)
	}
	return &session{
		Binding: b, suite: suite, set: set, payload: payload, keyID: d.KeyID, replaces: replaces, kdh: chain[0], issuedAt: d.IssuedAt,
	}, d, nil
}

// seal has the block made and signs it with all that it is bound to.
func (s *session) seal(ctx context.Context, d *Delivery, maker BlockMaker, signer crypto.Signer) (keys.KCV, error) {
	peer, err := s.agreementKey(s.suite)
	if err != nil {
		return keys.KCV{}, err
	}
	block, err := maker.MakeBlock(ctx, BlockRequest{
		BaseKey: s.set.BaseKey, KeyID: s.keyID, Algorithm: s.set.Algorithm, Suite: s.suite, Agreement: peer,
		OtherInfo: func(ephemeral []byte) string {
			bound := *s
			bound.ephemeral = ephemeral
			return bound.otherInfo()
		},
	})
	if err != nil {
		return keys.KCV{}, err
	}
	s.ephemeral = block.Ephemeral
	d.Ephemeral, d.Block = block.Ephemeral, block.Text
	digest, hash, err := s.digest(d.Block)
	if err != nil {
		return block.KCV, err
	}
	d.Signature, err = signer.Sign(rand.Reader, digest, hash)
	return block.KCV, err
}

// digest returns the hash of what the KDH signs. The curve of its key decides which hash.
func (s *session) digest(block string) ([]byte, crypto.Hash, error) {
	pub, ok := s.kdh.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, 0, errors.New("the key-distribution host has no ECDSA key")
	}
	var hash crypto.Hash
	switch pub.Curve {
	case elliptic.P256():
		hash = crypto.SHA256
	case elliptic.P384():
		hash = crypto.SHA384
	case elliptic.P521():
		hash = crypto.SHA512
	default:
		return nil, 0, errors.New("the key of the key-distribution host is not on P-256, P-384 or P-521")
	}
	h := hash.New()
	h.Write(s.signed(block))
	return h.Sum(nil), hash, nil
}

// checkKDH reports whether a certificate claims to be that of a key-distribution host of the tenant, for signing.
func checkKDH(c *x509.Certificate, tenant keyset.TenantID) error {
	id, err := identity.FromCertificate(c)
	if err != nil {
		return err
	}
	if id.Role != identity.KDH || id.Tenant != string(tenant) {
		return fmt.Errorf("certificate of %v, want role %s of tenant %s", id, identity.KDH, tenant)
	}
	if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || c.IsCA {
		return fmt.Errorf("certificate of %v is not for signatures", id)
	}
	return nil
}
