package remote

import (
	"crypto/ecdh"
	"crypto/x509"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const maxSignature = 256 // bytes

// Delivery is what the key-distribution host answers. The registration authority passes it on as it came. Only Open tells
// whether it is what it says.
type Delivery struct {
	KeySet       []byte      // payload of the key set document, as keyset.Marshal gives it
	KeyID        dukpt.KeyID // of the key in Block
	Replaces     dukpt.KeyID // the key of the slot that goes when this one is confirmed; zero for none
	IssuedAt     time.Time   // whole seconds
	Ephemeral    []byte      // public key, uncompressed point
	Block        string      // X9.143 key block, version D, usage B1
	Certificates [][]byte    // of the key-distribution host, DER, leaf first, no root
	Signature    []byte      // ECDSA, ASN.1
}

type wireDelivery struct {
	Version      uint     `cbor:"v"`
	KeySet       []byte   `cbor:"key-set"`
	KeyID        []byte   `cbor:"key-id"`
	Replaces     []byte   `cbor:"replaces,omitempty"`
	IssuedAt     int64    `cbor:"issued-at"`
	Ephemeral    []byte   `cbor:"ephemeral"`
	Block        string   `cbor:"block"`
	Certificates [][]byte `cbor:"certificates"`
	Signature    []byte   `cbor:"signature"`
}

// Marshal returns the one encoding of a delivery that is sound by itself. The error wraps ErrFormat.
func (d *Delivery) Marshal() ([]byte, error) {
	if _, err := d.parse(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireDelivery{
		FormatVersion, d.KeySet, bytesOf(d.KeyID), bytesOf(d.Replaces), d.IssuedAt.Unix(), d.Ephemeral, d.Block, d.Certificates,
		d.Signature,
	})
}

// ParseDelivery reads what Marshal gives, and nothing else. The delivery is sound by itself: a key set in use that delivers
// keys and contains the key id, a point of its curve, a key block of its algorithm. Nothing of it is verified: that is Open.
// The error wraps ErrFormat.
func ParseDelivery(b []byte) (*Delivery, error) {
	var w wireDelivery
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	d := &Delivery{
		KeySet: w.KeySet, IssuedAt: time.Unix(w.IssuedAt, 0).UTC(), Ephemeral: w.Ephemeral, Block: w.Block,
		Certificates: w.Certificates, Signature: w.Signature,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, FormatVersion)
	r.Binary(&d.KeyID, w.KeyID)
	r.Binary(&d.Replaces, w.Replaces)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, d, b)
}

// parsed is a delivery with its parts read.
type parsed struct {
	set       *keyset.KeySet
	suite     Suite
	ephemeral *ecdh.PublicKey
	chain     []*x509.Certificate
}

// parse reads the parts of a delivery and reports the first rule that it breaks by itself.
func (d *Delivery) parse() (parsed, error) {
	var p parsed
	var err error
	if p.set, err = keyset.Unmarshal(d.KeySet); err != nil {
		return parsed{}, malformed("%v", err)
	}
	if p.suite, err = deliverable(p.set, d.KeyID); err != nil {
		return parsed{}, err
	}
	if d.Replaces == d.KeyID {
		return parsed{}, malformed("key id %v replaces itself", d.KeyID)
	}
	if err := checkTime("issued-at", d.IssuedAt); err != nil {
		return parsed{}, err
	}
	if p.ephemeral, err = p.suite.Curve().NewPublicKey(d.Ephemeral); err != nil {
		return parsed{}, malformed("ephemeral key is no uncompressed point of %v", p.suite)
	}
	if err := checkBlock(d.Block, p.set.Algorithm); err != nil {
		return parsed{}, err
	}
	if p.chain, err = parseChain("certificates", d.Certificates, 1); err != nil {
		return parsed{}, err
	}
	if len(d.Signature) < 1 || len(d.Signature) > maxSignature {
		return parsed{}, malformed("signature of %d bytes, want 1 to %d", len(d.Signature), maxSignature)
	}
	return p, nil
}

// deliverable reports whether the initial key of an id may be delivered under a valid set, and in which suite.
func deliverable(set *keyset.KeySet, id dukpt.KeyID) (Suite, error) {
	if set.Delivery != keyset.Code && set.Delivery != keyset.Attested {
		return 0, malformed("key set %s delivers no keys", set.ID)
	}
	if !set.State.Permits(keyset.Deliver) {
		return 0, malformed("key set %s is %v", set.ID, set.State)
	}
	if uint64(set.Revision) > maxRevision {
		return 0, malformed("key set %s has revision %d, want at most %d", set.ID, set.Revision, uint64(maxRevision))
	}
	if !set.Contains(id) && !planted.On(planted.ParseDelivery) {
		return 0, malformed("key id %v is not of key set %s", id, set.ID)
	}
	suite, err := SuiteFor(set.Algorithm)
	if err != nil {
		return 0, malformed("%v", err)
	}
	return suite, nil
}

// checkBlock reads what a key block says of itself; the protection key proves it later. The length of the key is hidden.
func checkBlock(block string, a keys.Algorithm) error {
	h, err := keyblock.Inspect(block)
	if err != nil {
		return malformed("%v", err)
	}
	if h.Version != 'D' || h.Usage != string(keys.UsageInitialKey) || h.Mode != keys.ModeDerive || h.Algorithm != a.Letter() {
		return malformed("the key block is not of version D with an initial key of %v", a)
	}
	if len(h.Optional) > 0 || h.KeyVersion != "00" || h.Reserved != "00" {
		return malformed("the key block says more than that it has an initial key")
	}
	return nil
}
