package keydisttest

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// BlockKey is a base key that a maker of key blocks has.
type BlockKey struct {
	Ref   keyset.KeyRef
	Key   keys.Key
	KeyID dukpt.KeyID // one of its scheme
}

// RunBlocks holds a maker of key blocks to what remote.BlockMaker says. It has these base keys, one of each scheme at least,
// none under the reference absent, and this label.
func RunBlocks(t *testing.T, maker remote.BlockMaker, held []BlockKey, absent keyset.KeyRef, label remote.Exposure) {
	if got := maker.Exposure(); got != label {
		t.Errorf("the label is %v, want %v", got, label)
	}
	for _, h := range held {
		t.Run(h.Ref.String(), func(t *testing.T) { h.open(t, maker) })
		t.Run("not "+h.Ref.String(), func(t *testing.T) { h.refused(t, maker, held, absent) })
	}
	t.Run("parallel", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() { held[i%len(held)].open(t, maker) })
		}
		all.Wait()
	})
}

// request is one for a fresh agreement key.
func (h BlockKey) request(t *testing.T) (remote.BlockRequest, *ecdh.PrivateKey) {
	t.Helper()
	suite, err := remote.SuiteFor(h.Key.Attributes().Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	own, err := suite.Curve().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return remote.BlockRequest{
		BaseKey: h.Ref, KeyID: h.KeyID, Algorithm: h.Key.Attributes().Algorithm, Suite: suite, Agreement: own.PublicKey(),
		OtherInfo: func(ephemeral []byte) string { return "bound to " + string(ephemeral) },
	}, own
}

// open makes two blocks, opens them as a terminal does and compares with software.
func (h BlockKey) open(t *testing.T, maker remote.BlockMaker) {
	t.Helper()
	base, err := dukpt.NewBaseKey(h.Key)
	if err != nil {
		t.Error(err)
		return
	}
	defer base.Wipe()
	ik, err := base.Derive(h.KeyID)
	if err != nil {
		t.Error(err)
		return
	}
	defer ik.Wipe()
	want := ik.Key()
	defer want.Wipe()
	var points [][]byte
	for range 2 {
		r, own := h.request(t)
		b, err := maker.MakeBlock(t.Context(), r)
		if err != nil {
			t.Errorf("%v: %v", h.Ref, err)
			return
		}
		got, err := unwrap(r, own, b)
		if err != nil {
			t.Errorf("%v: the block does not open: %v", h.Ref, err)
			return
		}
		if !bytes.Equal(got.Material().Expose(), want.Material().Expose()) || got.Attributes() != want.Attributes() || b.KCV != want.KCV() {
			t.Errorf("%v: the block holds %+v, KCV %v; want %+v, KCV %v", h.Ref, got.Attributes(), b.KCV, want.Attributes(), want.KCV())
		}
		got.Wipe()
		points = append(points, b.Ephemeral)
	}
	if bytes.Equal(points[0], points[1]) {
		t.Errorf("%v: two blocks have one ephemeral key", h.Ref)
	}
}

// unwrap opens a block with what the standards say and not with the code that made it.
func unwrap(r remote.BlockRequest, own *ecdh.PrivateKey, b remote.Block) (keys.Key, error) {
	theirs, err := own.Curve().NewPublicKey(b.Ephemeral)
	if err != nil {
		return keys.Key{}, err
	}
	z, err := own.ECDH(theirs)
	if err != nil {
		return keys.Key{}, err
	}
	h := map[remote.Suite]func() hash.Hash{remote.SuiteP256: sha256.New, remote.SuiteP384: sha512.New384, remote.SuiteP521: sha512.New}[r.Suite]()
	h.Write(slices.Concat([]byte{0, 0, 0, 1}, z, []byte(r.OtherInfo(b.Ephemeral)))) // NIST SP 800-56C, one step
	kbpk, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, h.Sum(nil)[:32])
	if err != nil {
		return keys.Key{}, err
	}
	defer kbpk.Wipe()
	p, err := keyblock.NewProtector(kbpk)
	if err != nil {
		return keys.Key{}, err
	}
	defer p.Wipe()
	c, err := p.Unwrap(b.Text)
	if err != nil {
		return keys.Key{}, err
	}
	defer c.Wipe()
	return c.Key()
}

// refused asks for what there is not.
func (h BlockKey) refused(t *testing.T, maker remote.BlockMaker, held []BlockKey, absent keyset.KeyRef) {
	t.Helper()
	other := slices.IndexFunc(held, func(o BlockKey) bool { return o.KeyID.Scheme() != h.KeyID.Scheme() })
	if other < 0 {
		t.Fatal("the suite wants a base key of each scheme")
	}
	for name, change := range map[string]func(*remote.BlockRequest){
		"no such base key":       func(r *remote.BlockRequest) { r.BaseKey = absent },
		"a key id of the other":  func(r *remote.BlockRequest) { r.KeyID = held[other].KeyID },
		"no key id":              func(r *remote.BlockRequest) { r.KeyID = dukpt.KeyID{} },
		"another algorithm":      func(r *remote.BlockRequest) { r.Algorithm = keys.TDES3 },
		"no agreement key":       func(r *remote.BlockRequest) { r.Agreement = nil },
		"no suite":               func(r *remote.BlockRequest) { r.Suite = 0 },
		"no key derivation":      func(r *remote.BlockRequest) { r.OtherInfo = nil },
		"a key of another curve": func(r *remote.BlockRequest) { r.Agreement = otherCurve(t, r.Suite) },
	} {
		r, _ := h.request(t)
		change(&r)
		if b, err := maker.MakeBlock(t.Context(), r); err == nil || b.Text != "" {
			t.Errorf("%s: got block %q, error %v", name, b.Text, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r, _ := h.request(t)
	if b, err := maker.MakeBlock(gone, r); err == nil || b.Text != "" {
		t.Errorf("nobody waits any more: got block %q, error %v", b.Text, err)
	}
}

func otherCurve(t *testing.T, s remote.Suite) *ecdh.PublicKey {
	t.Helper()
	curve := ecdh.P256()
	if s == remote.SuiteP256 {
		curve = ecdh.P384()
	}
	k, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k.PublicKey()
}
