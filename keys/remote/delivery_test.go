package remote_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var algorithms = []keys.Algorithm{keys.TDES2, keys.AES128, keys.AES192, keys.AES256}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms {
		for _, signing := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			t.Run(fmt.Sprintf("%v signed on %s", a, signing.Params().Name), func(t *testing.T) {
				t.Parallel()
				l := newLab(t, a, signing)
				replaces := keyID(t, "FFFF987654321FE00000")
				d, err := remote.Seal(l.binding, l.set, replaces, l.key, noon.Add(123*time.Millisecond), l.signer, l.chain)
				check(t, err)
				b, err := d.Marshal()
				check(t, err)
				d, err = remote.ParseDelivery(b)
				check(t, err)
				o := l.options()
				o.Installed = replaces
				opened, err := remote.Open(d, l.binding, l.agreement, o)
				check(t, err)
				defer opened.Wipe()
				got, want := opened.Key.Key(), l.key.Key()
				defer got.Wipe()
				defer want.Wipe()
				if !got.Material().Equal(want.Material()) || got.Attributes() != want.Attributes() || opened.Key.KeyID() != l.key.KeyID() {
					t.Errorf("got %v of %v, want %v of %v", got, opened.Key.KeyID(), want, l.key.KeyID())
				}
				if opened.Replaces != replaces || !d.IssuedAt.Equal(noon) {
					t.Errorf("replaces %v, issued at %v", opened.Replaces, d.IssuedAt)
				}
				wantSet, err := keyset.Marshal(l.set)
				check(t, err)
				if gotSet, err := keyset.Marshal(opened.Set); err != nil || !bytes.Equal(gotSet, wantSet) {
					t.Errorf("key set %x, %v, want %x", gotSet, err, wantSet)
				}
				opened.Wipe()
				if k := opened.Key.Key(); !k.IsZero() {
					t.Error("the initial key survives Wipe")
				}
			})
		}
	}
}

// TestEveryByte changes every byte of a delivery in three ways, in one where time is short: none of the changed ones gives a key.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	b, err := l.seal(t).Marshal()
	check(t, err)
	if _, err := l.open(b); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for i := range b {
		flips := []byte{0x01, 0x20, 0x80}
		if testing.Short() {
			flips = flips[i%3:][:1]
		}
		for _, flip := range flips {
			changed := bytes.Clone(b)
			changed[i] ^= flip
			opened, err := l.open(changed)
			if err == nil || opened != nil {
				t.Fatalf("byte %d of %d changed by %02x is accepted", i, len(b), flip)
			}
			if !errors.Is(err, remote.ErrFormat) && !errors.Is(err, remote.ErrDelivery) {
				t.Fatalf("byte %d changed by %02x: %v", i, flip, err)
			}
		}
	}
	for n := range b {
		if _, err := remote.ParseDelivery(b[:n]); !errors.Is(err, remote.ErrFormat) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func (l *lab) open(b []byte) (*remote.Opened, error) {
	d, err := remote.ParseDelivery(b)
	if err != nil {
		return nil, err
	}
	return remote.Open(d, l.binding, l.agreement, l.options())
}

// TestOpenElsewhere opens a good delivery with something else than it was made for.
func TestOpenElsewhere(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	d := l.seal(t)
	_, otherTLS := certified(t, l.terminals, identity.Terminal, tenant, terminal, elliptic.P256())
	otherPrivate, otherAgreement := certified(t, l.keydist, identity.Agreement, tenant, terminal, elliptic.P256())
	otherKey, err := otherPrivate.ECDH()
	check(t, err)
	_, theirTLS := certified(t, l.terminals, identity.Terminal, tenant, "T-0002", elliptic.P256())
	_, theirAgreement := certified(t, l.keydist, identity.Agreement, tenant, "T-0002", elliptic.P256())
	const verify, agreement = "it does not verify", "the agreement certificate is not that of the agreement key"
	for name, c := range map[string]struct {
		change func(b *remote.Binding, o *remote.OpenOptions)
		want   string
	}{
		"another nonce":           {func(b *remote.Binding, _ *remote.OpenOptions) { b.Nonce[31] ^= 1 }, verify},
		"another connection":      {func(b *remote.Binding, _ *remote.OpenOptions) { b.Exporter[0] ^= 1 }, verify},
		"another slot":            {func(b *remote.Binding, _ *remote.OpenOptions) { b.Slot = 4 }, verify},
		"another TLS certificate": {func(b *remote.Binding, _ *remote.OpenOptions) { b.TLS = otherTLS[0] }, verify},
		"the TLS certificate of another terminal": {
			func(b *remote.Binding, _ *remote.OpenOptions) { b.TLS = theirTLS[0] }, "TLS certificate: of latchkey://ACME/terminal/T-0002",
		},
		"another terminal": {func(b *remote.Binding, _ *remote.OpenOptions) {
			b.Terminal, b.TLS, b.Agreement = "T-0002", theirTLS[0], theirAgreement[0]
		}, agreement},
		"another agreement certificate": {func(b *remote.Binding, _ *remote.OpenOptions) { b.Agreement = otherAgreement[0] }, agreement},
		"another name":                  {func(b *remote.Binding, _ *remote.OpenOptions) { b.Terminal = "T-0002" }, "TLS certificate: of latchkey://ACME/terminal/T-0001"},
		"another tenant":                {func(b *remote.Binding, _ *remote.OpenOptions) { b.Tenant = "OTHER" }, "TLS certificate: of latchkey://ACME/terminal/T-0001"},
		"no nonce":                      {func(b *remote.Binding, _ *remote.OpenOptions) { b.Nonce = [32]byte{} }, "nonce is not set"},
		"no connection":                 {func(b *remote.Binding, _ *remote.OpenOptions) { b.Exporter = [32]byte{} }, "exporter is not set"},
		"no TLS certificate":            {func(b *remote.Binding, _ *remote.OpenOptions) { b.TLS = nil }, "TLS certificate: identity"},
		"no agreement certificate":      {func(b *remote.Binding, _ *remote.OpenOptions) { b.Agreement = nil }, "agreement certificate: identity"},
		"no slot":                       {func(b *remote.Binding, _ *remote.OpenOptions) { b.Slot = 0 }, "slot 0"},
		"another environment":           {func(_ *remote.Binding, o *remote.OpenOptions) { o.Environment = keyset.Production }, "is for test"},
		"no environment":                {func(_ *remote.Binding, o *remote.OpenOptions) { o.Environment = 0 }, "is for test"},
		"another key set":               {func(_ *remote.Binding, o *remote.OpenOptions) { o.KeySet = "PIN" }, "want PIN of ACME"},
		"no key set":                    {func(_ *remote.Binding, o *remote.OpenOptions) { o.KeySet = "" }, "key set DATA of tenant ACME"},
		"an installed key":              {func(_ *remote.Binding, o *remote.OpenOptions) { o.Installed = l.set.LastID }, "installed is 12345678FFFFFFFF"},
		"no roots":                      {func(_ *remote.Binding, o *remote.OpenOptions) { o.Roots = nil }, "no roots"},
		"empty roots":                   {func(_ *remote.Binding, o *remote.OpenOptions) { o.Roots = x509.NewCertPool() }, "unknown authority"},
		"no time":                       {func(_ *remote.Binding, o *remote.OpenOptions) { o.Now = time.Time{} }, "no time"},
		"a time before the certificate": {func(_ *remote.Binding, o *remote.OpenOptions) { o.Now = noon.Add(-time.Hour) }, "expired or is not yet valid"},
		"a time after the certificate":  {func(_ *remote.Binding, o *remote.OpenOptions) { o.Now = noon.AddDate(2, 0, 0) }, "expired or is not yet valid"},
	} {
		b, o := l.binding, l.options()
		c.change(&b, &o)
		opened, err := remote.Open(d, b, l.agreement, o)
		refused(t, name, opened, err, c.want)
	}
	opened, err := remote.Open(d, l.binding, otherKey, l.options())
	refused(t, "another agreement key", opened, err, agreement)
	opened, err = remote.Open(d, l.binding, nil, l.options())
	refused(t, "no agreement key", opened, err, "no agreement key")
	opened, err = remote.Open(nil, l.binding, l.agreement, l.options())
	refused(t, "no delivery", opened, err, "no delivery")
	opened, err = remote.Open(&remote.Delivery{}, l.binding, l.agreement, l.options())
	refused(t, "an empty delivery", opened, err, "malformed message")
	opened, err = remote.Open(d, l.binding, l.agreement, l.options())
	if err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	opened.Wipe()
}

// refused demands nothing but an error of Open.
func refused(t *testing.T, name string, opened *remote.Opened, err error, want string) {
	t.Helper()
	if opened != nil || !errors.Is(err, remote.ErrDelivery) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, %v, want nothing and an error with %q", name, opened, err, want)
	}
}

// TestAgreementCertificates that are for more than agreement, or for a key that does more, get no key and open none.
func TestAgreementCertificates(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	d := l.seal(t)
	wide, err := catest.NewFake(identity.KeyDistCA, catest.Twist{Template: func(c *x509.Certificate) {
		c.KeyUsage |= x509.KeyUsageDigitalSignature
	}}, func() time.Time { return noon })
	check(t, err)
	wideKey, wideChain := certified(t, wide, identity.Agreement, tenant, terminal, elliptic.P256())
	bothKey, bothChain := certified(t, l.keydist, identity.Agreement, tenant, terminal, elliptic.P256())
	tlsOfBoth, err := l.terminals.Issue(t.Context(), ca.Request{
		PublicKey: bothKey.Public(), Identity: identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: terminal},
	})
	check(t, err)
	wideBinding, bothBinding := l.binding, l.binding
	wideBinding.Agreement = wideChain[0]
	bothBinding.Agreement, bothBinding.TLS = bothChain[0], tlsOfBoth[0]
	for _, c := range []struct {
		binding remote.Binding
		key     *ecdsa.PrivateKey
		want    string
	}{
		{wideBinding, wideKey, "not for key agreement alone"},
		{bothBinding, bothKey, "one key for TLS and for key agreement"},
	} {
		if d, err := remote.Seal(c.binding, l.set, dukpt.KeyID{}, l.key, noon, l.signer, l.chain); d != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("sealed: %v, want an error with %q", err, c.want)
		}
		private, err := c.key.ECDH()
		check(t, err)
		opened, err := remote.Open(d, c.binding, private, l.options())
		refused(t, c.want, opened, err, c.want)
	}
}

// TestStrangers seal as the host does, under a certificate that does not count. Those that Seal itself refuses stand in
// the vectors.
func TestStrangers(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	foreign := fake(t, identity.KeyDistCA)
	narrow, err := catest.NewFake(identity.KeyDistCA, catest.Twist{Issuing: func(c *x509.Certificate) {
		c.Policies = []x509.OID{identity.Agreement.Policy()}
	}}, func() time.Time { return noon })
	check(t, err)
	short, err := catest.NewFake(identity.KeyDistCA, catest.Twist{Issuing: func(c *x509.Certificate) {
		c.NotAfter = noon.Add(time.Minute)
	}}, func() time.Time { return noon })
	check(t, err)
	leaf, err := catest.NewFake(identity.KeyDistCA, catest.Twist{Issued: func(c []*x509.Certificate) []*x509.Certificate {
		return c[:1]
	}}, func() time.Time { return noon })
	check(t, err)
	for name, c := range map[string]struct {
		issuer *catest.Fake
		roots  []*x509.Certificate // beside those of the laboratory
		want   string
	}{
		"another authority":            {issuer: foreign, want: "unknown authority"},
		"an issuer for agreement only": {issuer: narrow, roots: narrow.Chain()[1:], want: "certificate of the key-distribution host"},
		"an issuer that is over":       {issuer: short, roots: short.Chain()[1:], want: "expired or is not yet valid"},
		"a chain without the issuer":   {issuer: leaf, roots: leaf.Chain()[1:], want: "unknown authority"},
	} {
		key, chain := certified(t, c.issuer, identity.KDH, tenant, "KDH-1", elliptic.P256())
		d, err := remote.Seal(l.binding, l.set, dukpt.KeyID{}, l.key, noon, key, chain)
		check(t, err)
		o := l.options()
		o.Roots = o.Roots.Clone()
		for _, root := range c.roots {
			o.Roots.AddCert(root)
		}
		o.Now = noon.Add(2 * time.Minute)
		opened, err := remote.Open(d, l.binding, l.agreement, o)
		refused(t, name, opened, err, c.want)
	}
	o := l.options()
	o.Roots = x509.NewCertPool()
	o.Roots.AddCert(l.chain[0])
	opened, err := remote.Open(l.seal(t), l.binding, l.agreement, o)
	refused(t, "a leaf that is its own root", opened, err, "its issuer may not certify it")
}

// TestSignature changes what is signed and who signs, with a good certificate beside it.
func TestSignature(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	other := newLab(t, keys.AES128, elliptic.P256())
	other.binding = l.binding
	for name, change := range map[string]func(d *remote.Delivery){
		"a stranger's signature": func(d *remote.Delivery) {
			d.Signature, err = stranger.Sign(rand.Reader, make([]byte, 32), nil)
			check(t, err)
		},
		"the signature of another delivery": func(d *remote.Delivery) { d.Signature = l.seal(t).Signature },
		"the block of another delivery":     func(d *remote.Delivery) { d.Block = l.seal(t).Block },
		"another host's signature":          func(d *remote.Delivery) { d.Signature = other.seal(t).Signature },
		"another time":                      func(d *remote.Delivery) { d.IssuedAt = d.IssuedAt.Add(time.Second) },
		"another key id":                    func(d *remote.Delivery) { d.KeyID = l.set.LastID },
		"another key that goes":             func(d *remote.Delivery) { d.Replaces = l.set.LastID },
		"another revision of the set": func(d *remote.Delivery) {
			d.KeySet, err = keyset.Marshal(l.set.NextRevision())
			check(t, err)
		},
		"another ephemeral key": func(d *remote.Delivery) { d.Ephemeral = l.seal(t).Ephemeral },
	} {
		d := l.seal(t)
		change(d)
		opened, err := remote.Open(d, l.binding, l.agreement, l.options())
		refused(t, name, opened, err, "remote: delivery refused: it does not verify")
	}
}

// TestSealRefuses what Open would refuse, before a key is wrapped.
func TestSealRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	_, terminalChain := certified(t, l.terminals, identity.Terminal, tenant, terminal, elliptic.P256())
	agreementKey, agreementChain := certified(t, l.keydist, identity.Agreement, tenant, terminal, elliptic.P256())
	otherKey, otherChain := certified(t, l.keydist, identity.KDH, "OTHER", "KDH-1", elliptic.P256())
	_, weak := certified(t, l.keydist, identity.Agreement, tenant, terminal, elliptic.P256())
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	set256 := setFor(t, keys.AES256)
	type refusal struct {
		change func(l *lab)
		want   string
	}
	cases := map[string]refusal{
		"no set":                 {func(l *lab) { l.set = nil }, "no key set"},
		"no key":                 {func(l *lab) { l.key = nil }, "no initial key"},
		"no signer":              {func(l *lab) { l.signer = nil }, "signer"},
		"no chain":               {func(l *lab) { l.chain = nil }, "chain"},
		"another signer":         {func(l *lab) { l.signer = stranger }, "not that of the signer"},
		"an agreement chain":     {func(l *lab) { l.signer, l.chain = agreementKey, agreementChain }, "want role kdh of tenant ACME"},
		"another tenant's chain": {func(l *lab) { l.signer, l.chain = otherKey, otherChain }, "want role kdh of tenant ACME"},
		"nine certificates": {func(l *lab) {
			for len(l.chain) < 9 {
				l.chain = append(l.chain, l.chain[1])
			}
		}, "9 certificates"},
		"a binding without nonce":     {func(l *lab) { l.binding.Nonce = [32]byte{} }, "nonce is not set"},
		"a binding of two terminals":  {func(l *lab) { l.binding.Terminal = "T-0002" }, "TLS certificate: of"},
		"TLS in place of agreement":   {func(l *lab) { l.binding.Agreement = terminalChain[0] }, "agreement certificate: of"},
		"a blocked set":               {func(l *lab) { l.set.State = keyset.Blocked }, "is blocked"},
		"a retired set":               {func(l *lab) { l.set.State = keyset.Retired }, "is retired"},
		"a set that is not delivered": {func(l *lab) { l.set.Delivery = keyset.DeliveryNone }, "delivers no keys"},
		"a set of another tenant":     {func(l *lab) { l.set.Tenant = "OTHER" }, "of tenant OTHER"},
		"an invalid set":              {func(l *lab) { l.set.Environment = keyset.Production }, "delivery by code"},
		"a key id outside":            {func(l *lab) { l.key = initialKey(t, keys.AES128, keyID(t, "1234567900000000")) }, "is not of key set DATA"},
		"a key of the other scheme":   {func(l *lab) { l.key = initialKey(t, keys.TDES2, keyID(t, "FFFF9876543210E00000")) }, "is not of key set DATA"},
		"a weaker key":                {func(l *lab) { l.set, l.binding = set256, newLab(t, keys.AES256, elliptic.P256()).binding }, "not of AES-256"},
		"a weaker agreement key":      {func(l *lab) { l.set, l.binding.Agreement = set256, weak[0] }, "not on P-521"},
		"a wiped key": {func(l *lab) {
			l.key = initialKey(t, keys.AES128, l.set.FirstID)
			l.key.Wipe()
		}, "is wiped"},
	}
	if bits.UintSize > 32 { // else there is none
		cases["a revision beyond 32 bits"] = refusal{func(l *lab) { l.set.Revision = math.MaxUint }, "has revision 18446744073709551615"}
	}
	for name, c := range cases {
		changed := *l
		changed.set = l.set.Clone()
		c.change(&changed)
		d, err := remote.Seal(changed.binding, changed.set, dukpt.KeyID{}, changed.key, noon, changed.signer, changed.chain)
		if d != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	if _, err := remote.Seal(l.binding, l.set, l.key.KeyID(), l.key, noon, l.signer, l.chain); err == nil {
		t.Error("a key that replaces itself is sealed")
	}
	if _, err := remote.Seal(l.binding, l.set, dukpt.KeyID{}, l.key, time.Time{}, l.signer, l.chain); err == nil {
		t.Error("a delivery without time of issue is sealed")
	}
	if d, err := remote.Seal(l.binding, l.set, dukpt.KeyID{}, l.key, noon, brokenSigner{l.signer.(*ecdsa.PrivateKey)}, l.chain); err == nil || d != nil {
		t.Error("a signer that fails gives a delivery")
	}
	if k := l.key.Key(); k.IsZero() {
		t.Error("Seal wiped the initial key")
	}
}

type brokenSigner struct{ *ecdsa.PrivateKey }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token is gone")
}
