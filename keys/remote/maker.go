package remote

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Exposure is the delivery label: where a clear initial key is while its key block is made.
type Exposure uint8

// The delivery labels of design section 4.
const (
	InSCD       Exposure = iota + 1 // never outside a secure cryptographic device
	ClearInHost                     // in the memory of the host
)

// String returns in-scd or clear-in-host.
func (e Exposure) String() string {
	switch e {
	case InSCD:
		return "in-scd"
	case ClearInHost:
		return "clear-in-host"
	}
	return fmt.Sprintf("remote.Exposure(%d)", uint8(e))
}

// BlockRequest says which initial key is wrapped, and for whom.
type BlockRequest struct {
	BaseKey   keyset.KeyRef
	KeyID     dukpt.KeyID
	Algorithm keys.Algorithm  // of the base key and of the initial key
	Suite     Suite           // the one for the algorithm
	Agreement *ecdh.PublicKey // of the terminal, on the curve of the suite
	// OtherInfo returns what goes into the key derivation beside the shared secret. It depends on the ephemeral public key.
	OtherInfo func(ephemeral []byte) string
}

// Block is a wrapped initial key.
type Block struct {
	Ephemeral []byte   // public key of the agreement, an uncompressed point: a fresh one for each block
	Text      string   // X9.143 block, version D: usage B1, mode X, under the key that docs/protocol.md, section 9, derives
	KCV       keys.KCV // of the initial key
}

// BlockMaker derives initial keys and wraps them: the part of a key-distribution host that needs the clear key, so that a
// device which does all of it inside can. It is safe for concurrent use. tls/keydist/keydisttest has the suite that each passes.
type BlockMaker interface {
	// MakeBlock returns the block of one initial key. Errors are for the log of the host: the key id is burnt.
	MakeBlock(ctx context.Context, r BlockRequest) (Block, error)

	// Exposure says where the clear key is meanwhile. It is the label of deliveries, and always the same.
	Exposure() Exposure
}

// InHost returns a maker in the memory of the host, whose label is [ClearInHost]. It gets initial keys from derive and wipes
// them.
func InHost(derive func(ctx context.Context, base keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error)) BlockMaker {
	return inHost{derive}
}

type inHost struct {
	derive func(context.Context, keyset.KeyRef, dukpt.KeyID) (*dukpt.InitialKey, error)
}

// Exposure implements BlockMaker.
func (inHost) Exposure() Exposure { return ClearInHost }

// MakeBlock implements BlockMaker. The ephemeral private key ends here: nobody, the KDH included, can open the block a second
// time.
func (m inHost) MakeBlock(ctx context.Context, r BlockRequest) (Block, error) {
	ik, err := m.derive(ctx, r.BaseKey, r.KeyID)
	if err != nil {
		return Block{}, err
	}
	defer ik.Wipe()
	if ik.KeyID() != r.KeyID {
		return Block{}, fmt.Errorf("the initial key is of %v, want %v", ik.KeyID(), r.KeyID)
	}
	k := ik.Key()
	defer k.Wipe()
	return wrapFor(r, k)
}

// wrapFor agrees on a protection key with the terminal and wraps an initial key under it.
func wrapFor(r BlockRequest, k keys.Key) (Block, error) {
	if k.IsZero() || k.Attributes().Algorithm != r.Algorithm {
		return Block{}, fmt.Errorf("the initial key is wiped, or not of %v as the key set says", r.Algorithm)
	}
	if r.Suite.Curve() == nil || r.Agreement == nil || r.OtherInfo == nil {
		return Block{}, errors.New("no suite, agreement key or key derivation")
	}
	own, err := r.Suite.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return Block{}, err
	}
	z, err := own.ECDH(r.Agreement)
	if err != nil {
		return Block{}, err
	}
	defer secret.Wipe(z)
	out := Block{Ephemeral: own.PublicKey().Bytes(), KCV: k.KCV()}
	kbpk, err := r.Suite.derive(z, r.OtherInfo(out.Ephemeral))
	if err != nil {
		return Block{}, err
	}
	defer kbpk.Wipe()
	p, err := keyblock.NewProtector(kbpk)
	if err != nil {
		return Block{}, err
	}
	defer p.Wipe()
	out.Text, err = p.Wrap(k)
	return out, err
}

// given is the maker of Seal: the initial key is there already.
type given struct{ ik *dukpt.InitialKey }

// Exposure implements BlockMaker.
func (given) Exposure() Exposure { return ClearInHost }

// MakeBlock implements BlockMaker.
func (g given) MakeBlock(_ context.Context, r BlockRequest) (Block, error) {
	k := g.ik.Key()
	defer k.Wipe()
	return wrapFor(r, k)
}
