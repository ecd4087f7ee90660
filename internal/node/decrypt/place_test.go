package decrypt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const (
	pinSlot, dataSlot = 1, 2

	testPAN   = "4761739001010119"
	testPIN   = "794361825037" // long, so that no timestamp holds it by chance
	testTrack = ";4761739001010119=22122011143878089?"
)

var (
	zoneKey = []byte("\x2f\x31\x40\x57\x68\x79\x8a\x9b\xad\xbc\xcb\xda\xe9\xf8\x01\x10")
	bdkPIN  = []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10")
	bdkData = []byte("\x10\x32\x54\x76\x98\xba\xdc\xfe\x01\x23\x45\x67\x89\xab\xcd\xef")
)

// Making a deployment seals many keys; the tests share one folder and have a database each.
var (
	scratch string
	shared  = sync.OnceValues(build)
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(withTokens{m}, &scratch)) }

// place is a deployment with a terminal and what its callers hold.
type place struct {
	dir      string
	bundle   *terminal.Bundle
	trust    tlsconf.Trust
	acquirer tls.Certificate // ACQ-1, which is on the list
	stranger tls.Certificate // ACQ-9, which is not
	auditor  tls.Certificate // of a role that is not served
	ra       tls.Certificate // RA-1, a registration authority
}

func build() (p *place, err error) {
	p = &place{dir: filepath.Join(scratch, "pos")}
	d, err := deploy.Create(p.dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase})
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }() // everything is written
	op, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return nil, err
	}
	if _, err := importKey(d, "alias/zone-1", keys.UsagePIN, keys.ModeEncrypt, zoneKey); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		id          keyset.ID
		base, first string
		material    []byte
		set         *keyset.KeySet
	}{
		{"PINS", "alias/bdk-pin", "FFFF9876543210E00000", bdkPIN, keyset.NewTDESPIN()},
		{"CARDS", "alias/bdk-data", "FFFF9876543310E00000", bdkData, keyset.NewTDESData()},
	} {
		info, err := importKey(d, s.base, keys.UsageBDK, keys.ModeDerive, s.material)
		if err != nil {
			return nil, err
		}
		if err := save(d, op, s.set, s.id, info, s.first); err != nil {
			return nil, err
		}
	}
	reg := deploy.Registration{
		ID: "T-1", Slots: []deploy.SlotRequest{{Slot: pinSlot, KeySet: "PINS"}, {Slot: dataSlot, KeySet: "CARDS"}},
		Endpoints:  []terminal.Endpoint{{URL: "https://127.0.0.1:7443", ServerName: "localhost"}},
		Passphrase: deploy.NewBundlePassphrase(), Signers: []*deploy.Person{op},
	}
	done, err := d.RegisterTerminal(context.Background(), reg)
	if err != nil {
		return nil, err
	}
	if p.bundle, err = terminal.OpenBundle(reg.Passphrase, done.Bundle); err != nil {
		return nil, err
	}
	if p.trust, err = d.Trust(); err != nil {
		return nil, err
	}
	if p.acquirer, err = d.ServiceCredential(deploy.ServiceAcquirer); err != nil {
		return nil, err
	}
	if p.stranger, err = certify(d, identity.AcquirerHost, "ACQ-9"); err != nil {
		return nil, err
	}
	if p.auditor, err = certify(d, identity.Auditor, "AUDITOR-9"); err != nil {
		return nil, err
	}
	p.ra, err = certify(d, identity.RA, "RA-1")
	return p, err
}

func importKey(d *deploy.Deployment, name string, usage keys.Usage, mode keys.Mode, material []byte) (engine.KeyInfo, error) {
	return importKeyOf(d, name, keys.TDES2, usage, mode, material)
}

func importKeyOf(d *deploy.Deployment, name string, algorithm keys.Algorithm, usage keys.Usage, mode keys.Mode, material []byte) (engine.KeyInfo, error) {
	ring, err := d.Keyring()
	if err != nil {
		return engine.KeyInfo{}, err
	}
	ref, err := keyset.ParseKeyRef(name)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	k, err := keys.NewKey(keys.Attributes{Algorithm: algorithm, Usage: usage, Mode: mode, Exportability: keys.NonExportable}, material)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	defer k.Wipe()
	return ring.Import(ref, k, keyset.Test)
}

func save(d *deploy.Deployment, op *deploy.Person, s *keyset.KeySet, id keyset.ID, info engine.KeyInfo, first string) error {
	return saveTo(d, op, s, id, info, first, "alias/zone-1")
}

func saveTo(d *deploy.Deployment, op *deploy.Person, s *keyset.KeySet, id keyset.ID, info engine.KeyInfo, first, to string) (err error) {
	s.ID, s.Tenant, s.Environment, s.BaseKey, s.BaseKeyFingerprint = id, "ACME", keyset.Test, info.Ref, info.Fingerprint
	s.Algorithm, s.Delivery = info.Attributes.Algorithm, keyset.DeliveryNone
	if s.FirstID, err = dukpt.ParseKeyID(first); err != nil {
		return err
	}
	s.LastID = s.FirstID
	if s.Has(keyset.UsagePIN) {
		zone, err := keyset.ParseKeyRef(to)
		if err != nil {
			return err
		}
		s.OutgoingPINKeys = []keyset.KeyRef{zone}
	}
	payload, err := keyset.Marshal(s)
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

func certify(d *deploy.Deployment, role identity.Role, name string) (tls.Certificate, error) {
	issuer, err := d.Issuer(identity.ServicesCA)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	id, err := identity.New("ACME", role, name)
	if err != nil {
		return tls.Certificate{}, err
	}
	req := ca.Request{PublicKey: key.Public(), Identity: id}
	if role.Server() {
		req.DNSNames, req.IPs = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	chain, err := issuer.Issue(context.Background(), req)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// running is a service on free ports.
type running struct {
	tb     testing.TB
	place  *place
	config Config
	addrs  Addrs
	log    *nodetest.Log
	stop   func() error
	card   *rogue.Terminal
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
	c.Database, c.CheckpointFile = filepath.Join(own, "decryptd.db"), filepath.Join(own, "checkpoint")
	c.Callers = []CallerConfig{{Name: "ACQ-1", PINKeys: []string{"alias/zone-1"}}}
	return p, c
}

// start runs the service until stop or the end of the test.
func start(tb testing.TB, p *place, c Config) *running {
	tb.Helper()
	n := nodetest.Start(tb, func(ctx context.Context, log *slog.Logger, ready func(Addrs)) error { return Run(ctx, c, log, ready) })
	return &running{
		tb: tb, place: p, config: c, addrs: n.Addrs, log: n.Log, stop: n.Stop, card: must[*rogue.Terminal](tb)(rogue.New(p.bundle)),
	}
}

// client is an HTTP client with a certificate.
func (r *running) client(cert tls.Certificate) *http.Client {
	r.tb.Helper()
	return nodetest.Client(r.tb, cert, r.place.trust, identity.Decrypt)
}

func (r *running) api() *api.Client {
	return api.NewClient("https://"+r.addrs.Service, r.client(r.place.acquirer))
}

// sale is a sale with card and PIN at an ordinal.
func (r *running) sale(ordinal uint32, cents int64) []byte {
	r.tb.Helper()
	p := must[pin.PIN](r.tb)(pin.ParsePIN([]byte(testPIN)))
	pan := must[pin.PAN](r.tb)(pin.ParsePAN(testPAN))
	amount := message.Amount{Minor: cents, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2}
	payload := must[*message.Payload](r.tb)(r.card.Sale(uint64(ordinal), amount, []byte(testTrack), dataSlot, pinSlot, ordinal, p, pan))
	return must[[]byte](r.tb)(r.card.Message(payload, dataSlot, ordinal))
}
