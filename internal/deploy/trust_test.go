package deploy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// TestUpdateTrustList adds a root and a further key. A terminal that took version 1 takes 2, and never 1 again.
func TestUpdateTrustList(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	first, pin, err := d.TrustList()
	must(t, err)
	terminal := trustlist.Accepted{Tenant: "ACME", Pins: []trustlist.Pin{pin}}
	one, err := trustlist.Open(first, terminal)
	must(t, err)
	terminal = terminal.Next(one)

	root := addRoot(t, d, identity.ServicesCA, time.Now)
	later := at(t, d, now.Add(time.Hour+time.Millisecond))
	key, further := furtherKey(t)
	list, err := later.UpdateTrustList([]trustlist.Pin{further})
	must(t, err)
	if list.Version != 2 || !list.NotBefore.Equal(now.Add(time.Hour)) || len(list.Services) != 2 || !list.Services[1].Equal(root) ||
		len(list.Terminals) != 1 || len(list.KeyDist) != 1 || len(list.Next) != 1 || list.Next[0] != further {
		t.Errorf("list %+v", list)
	}
	second, same, err := d.TrustList()
	must(t, err)
	two, err := trustlist.Open(second, terminal)
	must(t, err)
	if two.Version != 2 || same != pin {
		t.Errorf("version %d by %v, want 2 by %v", two.Version, same, pin)
	}
	terminal = terminal.Next(two)
	if _, err := trustlist.Open(first, terminal); !errors.Is(err, trustlist.ErrTrust) {
		t.Errorf("version 1 after 2: %v, want ErrTrust", err)
	}
	list.Version, list.Next = 3, nil
	third, err := trustlist.Sign(list, key)
	must(t, err)
	if _, err := trustlist.Open(third, terminal); err != nil {
		t.Errorf("version 3 by the further key: %v", err)
	}
	list, err = later.UpdateTrustList(nil)
	must(t, err)
	if list.Version != 3 || len(list.Next) != 0 {
		t.Errorf("version %d with further keys %v, want 3 with none", list.Version, list.Next)
	}
}

// TestUpdateTrustListRefuses leaves the list as it was.
func TestUpdateTrustListRefuses(t *testing.T) {
	t.Parallel()
	_, further := furtherKey(t)
	for name, tc := range map[string]struct {
		prepare func(*testing.T, *Deployment) *Deployment
		next    []trustlist.Pin
		want    error
	}{
		"a clock that went back": {prepare: func(t *testing.T, d *Deployment) *Deployment { return at(t, d, now.Add(-time.Hour)) }},
		"another passphrase": {prepare: func(t *testing.T, d *Deployment) *Deployment {
			other, err := OpenAt(d.Dir(), secret.From([]byte("another passphrase altogether")), clock)
			must(t, err)
			return other
		}, want: seal.ErrPassphrase},
		"another key": {prepare: func(t *testing.T, d *Deployment) *Deployment {
			_, der, err := generateKey()
			must(t, err)
			sealed, err := seal.SealWith(seal.Params{Memory: 64, Time: 1, Parallelism: 1}, passphrase, trustKeyLabel, der.Expose())
			must(t, err)
			must(t, seal.WriteFile(d.Path("trust", trustKeyFile), sealed, 0o600))
			return d
		}},
		"no key": {prepare: func(t *testing.T, d *Deployment) *Deployment {
			must(t, os.Remove(d.Path("trust", trustKeyFile)))
			return d
		}, want: os.ErrNotExist},
		"no roots": {prepare: func(t *testing.T, d *Deployment) *Deployment {
			must(t, os.Remove(TrustPath(d.Dir(), identity.KeyDistCA)))
			return d
		}, want: os.ErrNotExist},
		"a root that is over": {prepare: func(t *testing.T, d *Deployment) *Deployment {
			addRoot(t, d, identity.KeyDistCA, func() time.Time { return now.AddDate(-60, 0, 0) })
			return d
		}, want: trustlist.ErrTrust},
		"a further key named twice": {prepare: func(_ *testing.T, d *Deployment) *Deployment { return d },
			next: []trustlist.Pin{further, further}, want: trustlist.ErrTrust},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := deployment(t, keyset.Test)
			before, _, err := d.TrustList()
			must(t, err)
			if _, err := tc.prepare(t, d).UpdateTrustList(tc.next); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			after, _, err := d.TrustList()
			must(t, err)
			if !bytes.Equal(before, after) {
				t.Error("the list is another one")
			}
		})
	}
}

// addRoot adds a root to those of an authority in the trust folder.
func addRoot(t *testing.T, d *Deployment, a identity.Authority, clock func() time.Time) *x509.Certificate {
	t.Helper()
	issuer, err := catest.NewFake(a, catest.Twist{}, clock)
	must(t, err)
	chain := issuer.Chain()
	root := chain[len(chain)-1]
	path := TrustPath(d.Dir(), a)
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, seal.WriteFile(path, append(text, encodeCertificates(root)...), 0o644))
	return root
}

// at opens a deployment at another time.
func at(t *testing.T, d *Deployment, when time.Time) *Deployment {
	t.Helper()
	other, err := OpenAt(d.Dir(), passphrase, func() time.Time { return when })
	must(t, err)
	t.Cleanup(func() { _ = other.Close() }) // nothing was opened that could fail
	return other
}

func furtherKey(t *testing.T) (*ecdsa.PrivateKey, trustlist.Pin) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	pin, err := trustlist.PinOf(key.Public())
	must(t, err)
	return key, pin
}
