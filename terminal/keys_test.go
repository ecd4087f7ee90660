package terminal_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// box is a device with private keys, which gives none of them out.
type box struct {
	made    int
	keys    map[string]boxed
	refuses error // of Make
	stuck   error // of Destroy
	long    bool  // it makes handles that are too long
}

// boxed is a private key in a box: what crypto.Signer has, and with agrees what ecdh.KeyExchanger has.
type boxed struct {
	key    *ecdsa.PrivateKey
	agrees bool
}

type (
	boxedSigner    struct{ boxed }
	boxedExchanger struct{ boxedSigner }
)

func (b boxedSigner) Public() crypto.PublicKey { return b.key.Public() }
func (b boxedSigner) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return b.key.Sign(r, digest, o)
}

func (b boxedExchanger) exchanger() *ecdh.PrivateKey {
	k, err := b.key.ECDH()
	if err != nil {
		panic(err)
	}
	return k
}
func (b boxedExchanger) PublicKey() *ecdh.PublicKey { return b.exchanger().PublicKey() }
func (b boxedExchanger) Curve() ecdh.Curve          { return b.exchanger().Curve() }
func (b boxedExchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	return b.exchanger().ECDH(remote)
}

func (b *box) Make(curve elliptic.Curve, agrees bool) ([]byte, error) {
	if b.refuses != nil {
		return nil, b.refuses
	}
	if b.long {
		return make([]byte, terminal.MaxHandle+1), nil
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	b.made++
	handle := fmt.Sprintf("key-%d", b.made)
	b.keys[handle] = boxed{key, agrees}
	return []byte(handle), nil
}

var errNoKey = errors.New("there is no such key")

func (b *box) Open(handle []byte) (crypto.Signer, error) {
	k, ok := b.keys[string(handle)]
	if !ok {
		return nil, errNoKey
	}
	if k.agrees {
		return boxedExchanger{boxedSigner{k}}, nil
	}
	return boxedSigner{k}, nil
}

func (b *box) Destroy(handle []byte) error {
	if b.stuck != nil {
		return b.stuck
	}
	delete(b.keys, string(handle))
	return nil
}

// TestKeys enrols, sells, renews and rekeys with private keys in a device: none is on the medium, and the one that a renewal
// replaces is destroyed.
func TestKeys(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	host := terminaltest.NewAcquirer(t, lab)
	ra.Endpoints(host.URL)
	medium, device := terminaltest.NewFS(), &box{keys: map[string]boxed{}}
	o := options(t, ra)
	o.Keys = device
	check(t, enrolInto(t.Context(), medium, o))
	start := func() *terminal.Terminal {
		sealer, err := terminal.OpenInsecureFile(medium)
		check(t, err)
		term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Keys: device})
		check(t, err)
		t.Cleanup(func() { _ = term.Close() })
		return term
	}
	term := start()
	_, err := term.SignIn(t.Context())
	check(t, err)
	sell(t, lab, term)
	first := ra.Serial()
	check(t, term.Renew(t.Context()))
	ra.Retire()
	if device.made != 3 || len(device.keys) != 2 { // of TLS, for agreement, of TLS again
		t.Errorf("%d keys made, %d there, want 3 and 2", device.made, len(device.keys))
	}
	sell(t, lab, term)
	check(t, term.Close())
	term = start()
	ra.Order(terminaltest.DataSlot)
	check(t, term.Rekey(t.Context())) // agrees in the device
	sell(t, lab, term)
	if host.Last() != ra.Serial() || ra.Serial() == first {
		t.Errorf("the host sees %s, want the new certificate %s", host.Last(), ra.Serial())
	}
	check(t, term.Close())
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	seen := &witness{Sealer: sealer}
	term, err = terminal.Open(terminal.Options{FS: medium, Sealer: seen, Keys: device})
	check(t, err)
	if n := bytes.Count(seen.plain, []byte("latchkey key handle\x00key-")); n != 2 {
		t.Errorf("%d handles on the medium, want 2", n)
	}
	for name, k := range device.keys {
		if d, err := k.key.Bytes(); err != nil || bytes.Contains(seen.plain, d) {
			t.Errorf("the private key %s is on the medium, or %v", name, err)
		}
	}

	// A renewal that gets no key changes nothing.
	device.refuses = errors.New("busy")
	if err := term.Renew(t.Context()); !errors.Is(err, device.refuses) {
		t.Errorf("a device that makes no key: %v", err)
	}
	device.refuses = nil
	check(t, term.Renew(t.Context()))
	check(t, term.Close())

	// Without the device, or with another one, the terminal does not open.
	for name, keys := range map[string]terminal.Keys{"private key is in a device": nil, "no such key": &box{}} {
		o := terminal.Options{FS: medium, Sealer: sealer}
		if keys != nil {
			o.Keys = keys
		}
		if _, err := terminal.Open(o); !errors.Is(err, terminal.ErrState) || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q: %v", name, err)
		}
	}
	for h, k := range device.keys { // another key in the place of one
		device.keys[h] = boxed{newECDSA(t), k.agrees}
	}
	if _, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Keys: device}); !errors.Is(err, terminal.ErrState) {
		t.Errorf("another key: %v", err)
	}
}

// witness keeps what a sealer opens.
type witness struct {
	terminal.Sealer
	plain []byte
}

func (w *witness) Open(label string, sealed []byte) (secret.Bytes, error) {
	b, err := w.Sealer.Open(label, sealed)
	w.plain = append(w.plain, b.Expose()...)
	return b, err
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return k
}

// TestKeysInterrupted: an enrolment that goes on shows the keys that were made before, unless another curve is wanted.
func TestKeysInterrupted(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium, device := terminaltest.NewFS(), &box{keys: map[string]boxed{}, long: true}
	try := func(o terminal.EnrolOptions) error {
		o.Keys = device
		return enrolInto(t.Context(), medium, o)
	}
	if err := try(options(t, ra)); err == nil || !strings.Contains(err.Error(), "handle of 257 bytes") {
		t.Errorf("a handle that is too long: %v", err)
	}
	device.long = false
	nowhere := options(t, ra)
	nowhere.TrustURL = "http://127.0.0.1:1"
	if err := try(nowhere); err == nil {
		t.Fatal("enrolled at nobody's")
	}
	again := options(t, ra)
	again.Curve = elliptic.P384()
	again.TrustURL = "http://127.0.0.1:1"
	if err := try(again); err == nil || device.made != 3 {
		t.Fatalf("%d keys made, %v", device.made, err)
	}
	back := options(t, ra)
	back.Curve = elliptic.P256()
	check(t, try(back))
	if device.made != 4 {
		t.Errorf("%d keys made, want 4: the TLS key stays", device.made)
	}
}

// stubborn is a medium that does not rename one file.
type stubborn struct {
	terminal.FS
	stays string
}

var errStubborn = errors.New("it stays")

func (s *stubborn) Rename(from, to string) error {
	if from == s.stays {
		return errStubborn
	}
	return s.FS.Rename(from, to)
}

// TestKeysRenewalRepeated: a renewal that fails when its key is in use already, and is repeated, does not destroy that key.
func TestKeysRenewalRepeated(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	host := terminaltest.NewAcquirer(t, lab)
	ra.Endpoints(host.URL)
	medium, device := &stubborn{FS: terminaltest.NewFS()}, &box{keys: map[string]boxed{}}
	o := options(t, ra)
	o.Keys = device
	check(t, enrolInto(t.Context(), medium, o))
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	start := func() *terminal.Terminal {
		term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Keys: device})
		check(t, err)
		t.Cleanup(func() { _ = term.Close() })
		return term
	}
	term := start()
	_, err = term.SignIn(t.Context())
	check(t, err)
	medium.stays = "identity-next"
	for range 2 {
		if err := term.Renew(t.Context()); !errors.Is(err, errStubborn) {
			t.Fatalf("a renewal that does not end: %v", err)
		}
	}
	medium.stays = ""
	device.stuck = errors.New("busy")
	check(t, term.Renew(t.Context())) // ends it: nothing is to be destroyed
	if err := term.Renew(t.Context()); !errors.Is(err, device.stuck) {
		t.Errorf("a key that stays: %v", err)
	}
	sell(t, lab, term)
	check(t, term.Close())
	sell(t, lab, start())
	if device.made != 4 || len(device.keys) != 3 { // the one that was not destroyed is left
		t.Errorf("%d keys made, %d there, want 4 and 3", device.made, len(device.keys))
	}
}
