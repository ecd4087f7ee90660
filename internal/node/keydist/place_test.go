package keydist

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

var (
	bdk = []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10")
)

// Making a deployment seals many keys; the tests share one folder and have a database each.
var (
	scratch string
	shared  = sync.OnceValues(build)
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(withTokens{m}, &scratch)) }

// place is a deployment with a terminal that has a TLS certificate, and with who may call.
type place struct {
	dir      string
	trust    tlsconf.Trust
	ra       tls.Certificate
	acquirer tls.Certificate
	operator *deploy.Person
	keydist  *x509.Certificate // root of the key-distribution authority
	tlsKey   *ecdsa.PrivateKey
	tlsChain []*x509.Certificate // of terminal T-1
}

func build() (p *place, err error) {
	p = &place{dir: filepath.Join(scratch, "pos")}
	d, err := deploy.Create(p.dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase})
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }() // everything is written
	ring, err := d.Keyring()
	if err != nil {
		return nil, err
	}
	ref, err := keyset.ParseKeyRef("alias/bdk")
	if err != nil {
		return nil, err
	}
	k, err := keys.NewKey(keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}, bdk)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	info, err := ring.Import(ref, k, keyset.Test)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		id          keyset.ID
		first, last string
		delivery    keyset.Delivery
	}{
		{"CARDS", "FFFF9876543210E00000", "FFFF98765432FFE00000", keyset.Code}, {"MADE", "FFFF9876550000000000", "FFFF98765500FFE00000", keyset.Attested},
		{"PACKED", "FFFF9876560000000000", "FFFF98765600FFE00000", keyset.DeliveryNone},
	} {
		set := keyset.NewTDESData()
		set.ID, set.Tenant, set.Environment, set.Delivery = s.id, "ACME", keyset.Test, s.delivery
		set.BaseKey, set.BaseKeyFingerprint = info.Ref, info.Fingerprint
		if set.FirstID, err = dukpt.ParseKeyID(s.first); err != nil {
			return nil, err
		}
		if set.LastID, err = dukpt.ParseKeyID(s.last); err != nil {
			return nil, err
		}
		if err := save(d, set); err != nil {
			return nil, err
		}
	}
	if p.trust, err = d.Trust(); err != nil {
		return nil, err
	}
	if p.ra, err = d.ServiceCredential(deploy.ServiceRA); err != nil {
		return nil, err
	}
	if p.acquirer, err = d.ServiceCredential(deploy.ServiceAcquirer); err != nil {
		return nil, err
	}
	if p.operator, err = d.Operator(deploy.FirstOperator); err != nil {
		return nil, err
	}
	roots, err := deploy.LoadChain(deploy.TrustPath(p.dir, identity.KeyDistCA))
	if err != nil {
		return nil, err
	}
	p.keydist = roots[0]
	return p, errors.Join(p.enrol(d), register(d))
}

// register gives terminal T-9 a key of set PACKED in a bundle.
func register(d *deploy.Deployment) error {
	op, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return err
	}
	_, err = d.RegisterTerminal(context.Background(), deploy.Registration{
		ID: "T-9", Slots: []deploy.SlotRequest{{Slot: 1, KeySet: "PACKED"}},
		Endpoints:  []terminal.Endpoint{{URL: "https://127.0.0.1:7443", ServerName: "localhost"}},
		Passphrase: deploy.NewBundlePassphrase(), Signers: []*deploy.Person{op},
	})
	return err
}

func save(d *deploy.Deployment, set *keyset.KeySet) error {
	op, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return err
	}
	payload, err := keyset.Marshal(set)
	if err != nil {
		return err
	}
	doc, err := op.Sign(keyset.KindKeySet, payload)
	if err != nil {
		return err
	}
	_, err = d.SaveKeySet(doc)
	return err
}

func (p *place) enrol(d *deploy.Deployment) (err error) {
	issuer, err := d.Issuer(identity.TerminalCA)
	if err != nil {
		return err
	}
	if p.tlsKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	p.tlsChain, err = issuer.Issue(context.Background(), ca.Request{
		PublicKey: p.tlsKey.Public(), Identity: identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"},
	})
	return err
}

// running is a host on free ports.
type running struct {
	tb     testing.TB
	place  *place
	config Config
	addrs  Addrs
	log    *nodetest.Log
	stop   func() error
}

func must[T any](tb testing.TB) func(T, error) T { return nodetest.Must[T](tb) }

// testConfig is a configuration over the shared folder with a database of its own.
func testConfig(tb testing.TB) (*place, Config) {
	tb.Helper()
	p := must[*place](tb)(shared())
	own := tb.TempDir()
	c := DefaultConfig()
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = p.dir, "ACME", "test", nodetest.PassphraseFile(tb)
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	c.Database, c.CheckpointFile = filepath.Join(own, "keyd.db"), filepath.Join(own, "checkpoint")
	return p, c
}

// start runs the host until stop or the end of the test.
func start(tb testing.TB, p *place, c Config) *running {
	tb.Helper()
	n := nodetest.Start(tb, func(ctx context.Context, log *slog.Logger, ready func(Addrs)) error { return Run(ctx, c, log, ready) })
	return &running{tb: tb, place: p, config: c, addrs: n.Addrs, log: n.Log, stop: n.Stop}
}

// client is a client with a certificate.
func (r *running) client(cert tls.Certificate) *keydist.Client {
	r.tb.Helper()
	return keydist.NewClient("https://"+r.addrs.Service, nodetest.Client(r.tb, cert, r.place.trust, identity.KDH))
}

func (r *running) ra() *keydist.Client { return r.client(r.place.ra) }

func (r *running) admin(path string) (int, string) {
	r.tb.Helper()
	return nodetest.Get(r.tb, "http://"+r.addrs.Admin+path)
}

// device is terminal T-1 with an agreement key.
type device struct {
	tb        testing.TB
	place     *place
	key       *ecdsa.PrivateKey
	agreement []*x509.Certificate
}

// enrol certifies an agreement key of T-1.
func (r *running) enrol() *device {
	r.tb.Helper()
	d := &device{tb: r.tb, place: r.place, key: must[*ecdsa.PrivateKey](r.tb)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	id := identity.Identity{Tenant: "ACME", Role: identity.Agreement, Name: "T-1"}
	d.agreement = must[[]*x509.Certificate](r.tb)(r.ra().Certify(r.tb.Context(), remote.CertifyOrder{
		Tenant: "ACME", Terminal: "T-1", TLSChain: der(r.place.tlsChain), CSR: must[[]byte](r.tb)(est.NewRequest(d.key, id)),
	}))
	return d
}

func der(chain []*x509.Certificate) (out [][]byte) {
	for _, c := range chain {
		out = append(out, c.Raw)
	}
	return out
}

func (d *device) order(set keyset.ID) remote.Order {
	o := remote.Order{
		Tenant: "ACME", Terminal: "T-1", Slot: 1, KeySet: set, TLSChain: der(d.place.tlsChain), AgreementChain: der(d.agreement),
	}
	_, _ = rand.Read(o.Nonce[:])    // cannot fail
	_, _ = rand.Read(o.Exporter[:]) // cannot fail
	return o
}

// open returns the check value of the key in a delivery.
func (d *device) open(o remote.Order, got *remote.Delivery) string {
	d.tb.Helper()
	key, err := d.key.ECDH()
	if err != nil {
		d.tb.Fatal(err)
	}
	opened := must[*remote.Opened](d.tb)(remote.Open(got, remote.Binding{
		Tenant: "ACME", Terminal: "T-1", Slot: o.Slot, TLS: d.place.tlsChain[0], Agreement: d.agreement[0], Nonce: o.Nonce, Exporter: o.Exporter,
	}, key, remote.OpenOptions{Roots: d.place.trust.KeyDist, Now: time.Now(), Environment: keyset.Test, KeySet: o.KeySet}))
	defer opened.Wipe()
	return opened.Key.Key().KCV().String()
}
