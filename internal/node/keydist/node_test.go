package keydist

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// initialKey derives the initial key of an id, for comparison.
func initialKey(tb testing.TB, id dukpt.KeyID) keys.Key {
	tb.Helper()
	k := must[keys.Key](tb)(keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, bdk))
	defer k.Wipe()
	base := must[*dukpt.BaseKey](tb)(dukpt.NewBaseKey(k))
	defer base.Wipe()
	ik := must[*dukpt.InitialKey](tb)(base.Derive(id))
	defer ik.Wipe()
	return ik.Key()
}

func refused(tb testing.TB, err error, want keydist.Code) {
	tb.Helper()
	if r, ok := errors.AsType[*keydist.Refusal](err); !ok || r.Code != want {
		tb.Errorf("got %v, want %s", err, want)
	}
}

func TestAKeyOverTheWire(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	d, ctx := r.enrol(), t.Context()
	o := d.order("CARDS")
	got := must[*remote.Delivery](t)(r.ra().Deliver(ctx, o))
	want := initialKey(t, got.KeyID)
	if kcv := d.open(o, got); kcv != want.KCV().String() || got.KeyID.String() != "FFFF9876543210E00000" {
		t.Errorf("key id %v, check value %s, want %v", got.KeyID, kcv, want.KCV())
	}
	s := remote.Settlement{Tenant: "ACME", Terminal: "T-1", Slot: 1, KeySet: "CARDS", KeyID: got.KeyID, State: keyset.SlotActive}
	if err := r.ra().Settle(ctx, s); err != nil {
		t.Fatal(err)
	}
	_, err := r.ra().Deliver(ctx, d.order("MADE"))
	refused(t, err, keydist.CodeAttestationInvalid)
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		`latchkey_key_orders_total{action="certify",result="CERTIFIED"} 1`, `latchkey_key_orders_total{action="deliver/code",result="DELIVERED"} 1`,
		`latchkey_key_orders_total{action="deliver",result="AttestationInvalid"} 1`, `latchkey_key_orders_total{action="settle",result="ACTIVE"} 1`,
		`latchkey_http_requests_total{route="POST /delivery",status="200"} 1`, `latchkey_commit_batch_size_bucket{le="1"}`,
		`latchkey_key_set_info{delivery="code",delivery_exposure="clear-in-host",environment="test",key_mode="software",key_set="CARDS",pin_exposure="host-memory",state="active"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	status, body := r.admin("/readyz")
	for _, want := range []string{"keys", "signer", "store", "issuer", "catalog"} {
		if status != 200 || !strings.Contains(body, `"`+want+`":"ok"`) {
			t.Errorf("readiness %d %s, want %s", status, body, want)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	var results []string
	labels := audit.Labels{KeyMode: "software", PINExposure: "host-memory", Environment: "test"}
	for _, l := range nodetest.Records(t, c.Database) {
		results = append(results, l.Result)
		if l.Result == "DELIVERED" && (l.Reason != remote.ClearInHost.String() || l.Labels != labels || l.KCV != want.KCV().String() || l.Actor != "RA-1" || l.Instance != "KDH-1") {
			t.Errorf("record %+v", l)
		}
	}
	if got := strings.Join(results, " "); got != "CERTIFIED ALLOCATED DELIVERED ACTIVE REFUSED" {
		t.Errorf("recorded %s", got)
	}
}

// TestWhoIsServed lets only the registration authority in.
func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	d := r.enrol()
	if _, err := r.client(p.acquirer).Deliver(t.Context(), d.order("CARDS")); err == nil || errors.As(err, new(*keydist.Refusal)) {
		t.Errorf("a role that is not served got past the handshake: %v", err)
	}
	must[*remote.Delivery](t)(r.ra().Deliver(t.Context(), d.order("CARDS")))
}

// TestIDsOutliveTheProcess restarts the host, starts a second one beside it, and takes its database away.
func TestIDsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	d := r.enrol()
	first := must[*remote.Delivery](t)(r.ra().Deliver(t.Context(), d.order("CARDS")))
	quiet := slog.New(slog.DiscardHandler)
	if err := Check(t.Context(), c, quiet); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, p, c)
	second := must[*remote.Delivery](t)(r.ra().Deliver(t.Context(), d.order("CARDS")))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if a, b := first.KeyID.String(), second.KeyID.String(); a != "FFFF9876543210E00000" || b != "FFFF9876543211000000" {
		t.Errorf("delivered %s and %s", a, b)
	}
	for _, name := range must[[]string](t)(filepath.Glob(c.Database + "*")) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(t.Context(), c, quiet); !errors.Is(err, sqlite.ErrMissing) {
		t.Errorf("without its database: %v", err)
	}
}

// TestAfter takes the highest of what the configuration says and of what terminals with signed records have.
func TestAfter(t *testing.T) {
	t.Parallel()
	p := must[*place](t)(shared())
	catalog := must[*deploy.Catalog](t)(deploy.NewCatalog(deploy.CatalogOptions{Dir: p.dir, Tenant: "ACME", Environment: keyset.Test}))
	for _, c := range []struct {
		set         keyset.ID
		after, want string
	}{
		{"CARDS", "", "[no key id]"}, {"CARDS", "FFFF9876543220E00000", "FFFF9876543220E00000"},
		{"PACKED", "", "FFFF9876560000000000"}, {"PACKED", "FFFF9876560000000000", "FFFF9876560000000000"},
		{"PACKED", "FFFF9876560000200000", "FFFF9876560000200000"},
	} {
		var config Config
		if c.after != "" {
			config.FirstAfter = map[string]string{string(c.set): c.after, "MADE": "FFFF9876550000000000"}
		}
		a := must[*after](t)(newAfter(config, catalog))
		set, ok := catalog.KeySet(c.set)
		if !ok {
			t.Fatalf("no key set %s", c.set)
		}
		if got := a.of(set).String(); got != c.want {
			t.Errorf("%s after %q: %s, want %s", c.set, c.after, got, c.want)
		}
	}
	for name, id := range map[string]string{"NONE": "FFFF9876543210E00000", "CARDS": "FFFF9876550000000000"} {
		if _, err := newAfter(Config{FirstAfter: map[string]string{name: id}}, catalog); err == nil || !strings.Contains(err.Error(), "first-after") {
			t.Errorf("%s: %s: %v", name, id, err)
		}
	}
}

// TestStartingRefuses wants the reason in the error, and its kind where there is one.
func TestStartingRefuses(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, text string, mode fs.FileMode) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nodetest.RefusesStart(t, func(tb testing.TB) Config { _, c := testConfig(tb); return c }, Check, []nodetest.Attempt[Config]{
		{"no passphrase file", func(_ *testing.T, c *Config) { c.PassphraseFile += "x" }, fs.ErrNotExist, "passphrase-file"},
		{"another passphrase", func(t *testing.T, c *Config) { c.PassphraseFile = write(t, "another passphrase altogether", 0o600) }, seal.ErrPassphrase, "certificate"},
		{"no deployment", func(t *testing.T, c *Config) { c.Folder = t.TempDir() }, fs.ErrNotExist, ""},
		{"the certificate of another role", func(_ *testing.T, c *Config) {
			c.Certificate, c.Key = "services/decrypt/cert.pem", "services/decrypt/key.sealed"
		}, nil, "role kdh"},
		{"a signer of another role", func(_ *testing.T, c *Config) {
			c.SignerCertificate, c.SignerKey = "services/ra/cert.pem", "services/ra/key.sealed"
		}, nil, "signer"},
		{"the issuer of terminals", func(_ *testing.T, c *Config) { c.Issuer = "ca/terminals" }, nil, "issuer"},
		{"key sets of another environment", func(_ *testing.T, c *Config) { c.Environment = "production" }, nil, "catalog"},
		{"no folder of makers", func(_ *testing.T, c *Config) { c.Attested = "none" }, fs.ErrNotExist, "attested"},
		{"a folder of something else", func(_ *testing.T, c *Config) { c.Attested = "keysets" }, deploy.ErrDocument, "attested"},
		{"our own root as a maker", func(t *testing.T, c *Config) {
			p := must[*place](t)(shared())
			f := &makersFolder{t: t, place: p, dir: t.TempDir(), root: p.keydist}
			f.put(1, keyset.Test)
			c.Attested = f.dir
		}, keydist.ErrMakers, "attested"},
	}...)
}

// TestTheWrittenConfigurationWorks starts from the file that latchkey init leaves.
func TestTheWrittenConfigurationWorks(t *testing.T) {
	t.Parallel()
	p := must[*place](t)(shared())
	c := must[Config](t)(LoadConfig(filepath.Join(p.dir, deploy.KeydFile)))
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Folder, want.Tenant, want.Environment, want.PassphraseFile = p.dir, "ACME", "test", "passphrase"
	if c.Folder != want.Folder || c.Tenant != want.Tenant || c.Environment != want.Environment || c.PassphraseFile != want.PassphraseFile ||
		c.Listen != want.Listen || c.Admin != want.Admin || c.Instance != want.Instance || c.Certificate != want.Certificate || c.Key != want.Key ||
		c.SignerCertificate != want.SignerCertificate || c.SignerKey != want.SignerKey || c.Issuer != want.Issuer || c.Keyring != want.Keyring ||
		c.Attested != want.Attested || c.Database != want.Database || c.CheckpointKey != want.CheckpointKey || c.CheckpointFile != want.CheckpointFile ||
		c.CheckpointEvery != want.CheckpointEvery || len(c.FirstAfter) != 0 {
		t.Errorf("configuration %+v\nwant %+v", c, want)
	}
}

// makersFolder is a folder of signed makers of its own.
type makersFolder struct {
	t     *testing.T
	place *place
	dir   string
	root  *x509.Certificate
}

// put writes a file, signed by the operator of the place.
func (f *makersFolder) put(revision uint64, env keyset.Environment, devices ...string) {
	f.t.Helper()
	list := must[*keydist.AllowList](f.t)(keydist.ParseAllowList([]byte(strings.Join(devices, "\n"))))
	m := &keydist.Makers{Tenant: "ACME", Environment: env, Revision: revision, Roots: []*x509.Certificate{f.root}, Devices: list}
	doc := must[[]byte](f.t)(f.place.operator.Sign(keydist.KindMakers, must[[]byte](f.t)(m.Marshal())))
	if err := seal.WriteFile(f.path(revision), doc, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *makersFolder) path(revision uint64) string {
	return filepath.Join(f.dir, fmt.Sprintf("r%d.signed", revision))
}

// TestMakersAreReadAgain attests a key, lists its device while the host runs, takes it off again, and has documents that do not
// count put into the folder.
func TestMakersAreReadAgain(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	root, key := maker(t)
	folder := &makersFolder{t: t, place: p, dir: t.TempDir(), root: root}
	reload := make(chan os.Signal)
	c.Attested, c.Reload = folder.dir, reload
	again := func() {
		reload <- os.Interrupt // taken when the loop is free,
		reload <- os.Interrupt // and again after a whole reading
	}
	r := start(t, p, c)
	d := r.enrol()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{SerialNumber: "SN-1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	attestation := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, root, d.key.Public(), key))
	deliver := func() error {
		o := d.order("MADE")
		o.Attestation = [][]byte{attestation}
		got, err := r.ra().Deliver(t.Context(), o)
		if err == nil {
			d.open(o, got)
		}
		return err
	}
	ready := func(what string, want bool) {
		t.Helper()
		if status, body := r.admin("/readyz"); (status == 200) != want || strings.Contains(body, `"catalog":"failed"`) == want {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	refused(t, deliver(), keydist.CodeAttestationInvalid)
	folder.put(1, keyset.Test)
	again()
	refused(t, deliver(), keydist.CodeAttestationNotListed)
	folder.put(2, keyset.Test, "SN-1")
	again()
	if err := deliver(); err != nil {
		t.Errorf("a listed device: %v", err)
	}
	ready("at first", true)
	for name, spoil := range map[string]func(){
		"a damaged document":                   func() { check(t, os.WriteFile(folder.path(3), []byte("signed"), 0o600)) },
		"one signature for production":         func() { folder.put(3, keyset.Production) },
		"a revision left out":                  func() { folder.put(4, keyset.Test) },
		"another document of the revision":     func() { folder.put(2, keyset.Test) },
		"the latest revision gone":             func() { check(t, os.Remove(folder.path(2))) },
		"our own root among the makers":        func() { folder.withRoot(p.keydist).put(3, keyset.Test) },
		"a file that somebody else left there": func() { check(t, os.WriteFile(folder.path(0)+".txt", nil, 0o600)) },
	} {
		was := must[[]byte](t)(os.ReadFile(folder.path(2)))
		spoil()
		again()
		if err := deliver(); err != nil {
			t.Errorf("%s changes something: %v", name, err)
		}
		ready(name, false)
		for _, path := range []string{folder.path(3), folder.path(4), folder.path(0) + ".txt"} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		check(t, os.WriteFile(folder.path(2), was, 0o600))
		again()
		ready("after "+name, true)
	}
	folder.put(3, keyset.Test, "SN-2")
	again()
	refused(t, deliver(), keydist.CodeAttestationNotListed)
	_, metrics := r.admin("/metrics")
	for _, want := range []string{"\nlatchkey_attested_devices 1\n", "\nlatchkey_attested_revision 3\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if log := r.log.String(); strings.Count(log, "makers in force") != 3 || !strings.Contains(log, "ACME/OPERATOR-1") {
		t.Errorf("the log tells of %d revisions", strings.Count(log, "makers in force"))
	}
}

func (f makersFolder) withRoot(root *x509.Certificate) *makersFolder {
	f.root = root
	return &f
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func maker(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return must[*x509.Certificate](t)(x509.ParseCertificate(der)), key
}

// TestNoSecretIsLeftBehind delivers keys and refuses orders, and looks for the keys in everything that stays.
func TestNoSecretIsLeftBehind(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	r := start(t, p, c)
	d := r.enrol()
	var left bytes.Buffer
	secrets := map[string][]byte{"base key": bdk, "passphrase": nodetest.Passphrase.Expose()}
	for range 3 {
		got := must[*remote.Delivery](t)(r.ra().Deliver(t.Context(), d.order("CARDS")))
		k := initialKey(t, got.KeyID)
		secrets["key "+got.KeyID.String()] = k.Material().Expose()
		left.Write(must[[]byte](t)(got.Marshal()))
		_, err := r.ra().Deliver(t.Context(), d.order("NONE"))
		left.WriteString(err.Error())
	}
	for _, path := range []string{"/metrics", "/readyz", "/livez"} {
		_, text := r.admin(path)
		left.WriteString(text)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	left.WriteString(r.log.String())
	left.Write(nodetest.Database(t, c.Database))
	left.Write(must[[]byte](t)(os.ReadFile(c.CheckpointFile)))
	nodetest.NoneOf(t, left.Bytes(), secrets, "DELIVERED", "FFFF9876543210E00000")
}
