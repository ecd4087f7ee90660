package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var (
	passphrase = secret.From([]byte("correct horse battery staple"))
	now        = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	clock      = func() time.Time { return now }

	bdkTDES = keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}
	bdkAES  = keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}
	zoneAES = keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.Exportable}
)

// Making a deployment seals fifteen keys; the tests share copies of two.
var (
	scratch  string
	original = map[keyset.Environment]func() error{
		keyset.Test:       sync.OnceValue(func() error { return build(keyset.Test) }),
		keyset.Production: sync.OnceValue(func() error { return build(keyset.Production) }),
	}
)

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "deploy-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch) // temporary
	os.Exit(code)
}

func build(env keyset.Environment) error {
	d, err := Create(filepath.Join(scratch, env.String()), Options{Tenant: "ACME", Environment: env, Passphrase: passphrase, Clock: clock})
	if err != nil {
		return err
	}
	defer d.Close()
	ring, err := d.Keyring()
	if err != nil {
		return err
	}
	for name, a := range map[string]keys.Attributes{"bdk/tdes": bdkTDES, "bdk/aes": bdkAES, "zone-1": zoneAES} {
		ref, err := keyset.ParseKeyRef("alias/" + name)
		if err != nil {
			return err
		}
		if _, err := ring.Generate(ref, a, env); err != nil {
			return err
		}
	}
	return cheapen(d.Dir())
}

// cheapen seals every file of a deployment again at a cost that suits tests, which open hundreds.
func cheapen(dir string) error {
	labels := []string{serviceKeyLabel, checkpointKeyLabel, trustKeyLabel, pepperLabel, "latchkey keyring lmk"}
	for _, kind := range identity.Authorities() {
		labels = append(labels, fmt.Sprintf("latchkey ca %v root.key.sealed", kind), fmt.Sprintf("latchkey ca %v issuing.key.sealed", kind))
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".sealed") {
			return err
		}
		sealed, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, label := range labels {
			plain, err := seal.Open(passphrase, label, sealed)
			if err != nil {
				continue // a label of another file
			}
			again, err := seal.SealWith(seal.Params{Memory: 64, Time: 1, Parallelism: 1}, passphrase, label, plain.Expose())
			if err != nil {
				return err
			}
			return seal.WriteFile(path, again, 0o600)
		}
		return fmt.Errorf("no label opens %s", path)
	})
}

// deployment returns a copy of its own of a deployment with two base keys and a zone key.
func deployment(t *testing.T, env keyset.Environment) *Deployment {
	t.Helper()
	must(t, original[env]())
	dir := filepath.Join(t.TempDir(), "d")
	copyTree(t, filepath.Join(scratch, env.String()), dir)
	return reopen(t, dir)
}

func reopen(t *testing.T, dir string) *Deployment {
	t.Helper()
	d, err := OpenAt(dir, passphrase, clock)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() }) // tests that care close it themselves
	return d
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), info.Mode().Perm())
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, info.Mode().Perm())
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ref(t *testing.T, s string) keyset.KeyRef {
	t.Helper()
	r, err := keyset.ParseKeyRef(s)
	must(t, err)
	return r
}

func keyID(t *testing.T, s string) dukpt.KeyID {
	t.Helper()
	id, err := dukpt.ParseKeyID(s)
	must(t, err)
	return id
}

// pinSet is a valid AES set of the deployment.
func pinSet(t *testing.T, d *Deployment, id keyset.ID, first, last string) *keyset.KeySet {
	t.Helper()
	s := keyset.NewAESPIN()
	s.BaseKey, s.OutgoingPINKeys = ref(t, "alias/bdk/aes"), []keyset.KeyRef{ref(t, "alias/zone-1")}
	return fill(t, d, s, id, first, last)
}

// dataSet is a valid TDES set of the deployment.
func dataSet(t *testing.T, d *Deployment, id keyset.ID, first, last string) *keyset.KeySet {
	t.Helper()
	s := keyset.NewTDESData()
	s.BaseKey = ref(t, "alias/bdk/tdes")
	return fill(t, d, s, id, first, last)
}

func fill(t *testing.T, d *Deployment, s *keyset.KeySet, id keyset.ID, first, last string) *keyset.KeySet {
	t.Helper()
	ring, err := d.Keyring()
	must(t, err)
	info, err := ring.Engine().Describe(t.Context(), s.BaseKey)
	must(t, err)
	s.ID, s.Tenant, s.Environment, s.BaseKeyFingerprint = id, "ACME", d.Config().Environment, info.Fingerprint
	s.FirstID, s.LastID = keyID(t, first), keyID(t, last)
	s.Delivery = keyset.DeliveryNone // so that bundles are
	if s.Environment == keyset.Production {
		s.Delivery = keyset.Attested
	}
	must(t, s.Validate())
	return s
}

func person(t *testing.T, d *Deployment, name string) *Person {
	t.Helper()
	p, err := d.Operator(name)
	must(t, err)
	return p
}

// sign makes a document signed by people in turn.
func sign(t *testing.T, s *keyset.KeySet, people ...*Person) []byte {
	t.Helper()
	payload, err := keyset.Marshal(s)
	must(t, err)
	return signPayload(t, keyset.KindKeySet, payload, people...)
}

func signPayload(t *testing.T, kind string, payload []byte, people ...*Person) []byte {
	t.Helper()
	doc, err := people[0].Sign(kind, payload)
	must(t, err)
	for _, p := range people[1:] {
		doc, err = p.AddSignature(doc)
		must(t, err)
	}
	return doc
}

func TestCreate(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	if c := d.Config(); c.Tenant != "ACME" || c.Environment != keyset.Test || !c.Created.Equal(now) {
		t.Errorf("config %+v", c)
	}
	for _, name := range []string{
		"latchkey.yaml", "decryptd.yaml", "ca/terminals/root.crt", "ca/services/issued.jsonl", "ca/keydist/issuing.key.sealed",
		"trust/terminals.pem", "trust/services.pem", "trust/keydist.pem", "services/decrypt/cert.pem", "services/decrypt/key.sealed",
		"services/acquirer/cert.pem", "operators/OPERATOR-1/key.sealed", "operators/AUDITOR-1/cert.pem", "keyring/lmk.sealed",
		"audit/checkpoint.key.sealed", "audit/checkpoint.pub", "keysets", "terminals", "attested",
		"provisiond.yaml", "keyd.yaml", "services/ra/pepper.sealed", "services/registry/key.sealed", "services/keydist/cert.pem",
		"services/kdh-signer/cert.pem", "trust/list.signed", "trust/list.pin", "trust/list.key.sealed", "audit/keyd.pub", "audit/provisiond.pub",
	} {
		if _, err := os.Stat(d.Path(name)); err != nil {
			t.Error(err)
		}
	}
	must(t, filepath.WalkDir(d.Dir(), func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		public := strings.HasSuffix(path, ".pem") || strings.HasSuffix(path, ".pub") || strings.HasSuffix(path, ".crt") ||
			strings.HasSuffix(path, "list.signed") || strings.HasSuffix(path, "list.pin")
		if info.Mode().Perm()&0o077 != 0 && !public {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), string(passphrase.Expose())) {
			t.Errorf("%s holds the passphrase", path)
		}
		return nil
	}))
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	good := Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: passphrase, Clock: clock}
	for name, change := range map[string]func(*Options){
		"no tenant":        func(o *Options) { o.Tenant = "" },
		"lower-case":       func(o *Options) { o.Tenant = "acme" },
		"no environment":   func(o *Options) { o.Environment = 0 },
		"no passphrase":    func(o *Options) { o.Passphrase = secret.Bytes{} },
		"short passphrase": func(o *Options) { o.Passphrase = secret.From([]byte("short")) },
		"bad host":         func(o *Options) { o.Hosts = []string{"*.example.org"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, parent := good, t.TempDir()
			change(&o)
			if d, err := Create(filepath.Join(parent, "d"), o); err == nil {
				t.Errorf("made %v", d)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
				t.Errorf("left %v behind, %v", left, err)
			}
		})
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "precious"), []byte("data"), 0o600))
	if _, err := Create(dir, good); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another folder: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "precious")); err != nil || string(b) != "data" {
		t.Errorf("the folder was touched: %q, %v", b, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.TempDir(), passphrase); !errors.Is(err, ErrNotDeployment) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "x"), passphrase); !errors.Is(err, ErrNotDeployment) {
		t.Errorf("no folder: %v", err)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"unknown field":   "version: 1\ntenant: ACME\nenvironment: test\ncreated: \"2026-03-04T05:06:07Z\"\nmore: 1\n",
		"repeated field":  "version: 1\ntenant: ACME\ntenant: ACME\nenvironment: test\ncreated: \"2026-03-04T05:06:07Z\"\n",
		"two documents":   "version: 1\ntenant: ACME\nenvironment: test\ncreated: \"2026-03-04T05:06:07Z\"\n---\nversion: 1\n",
		"other version":   "version: 2\ntenant: ACME\nenvironment: test\ncreated: \"2026-03-04T05:06:07Z\"\n",
		"no tenant":       "version: 1\nenvironment: test\ncreated: \"2026-03-04T05:06:07Z\"\n",
		"bad environment": "version: 1\ntenant: ACME\nenvironment: Test\ncreated: \"2026-03-04T05:06:07Z\"\n",
		"bad date":        "version: 1\ntenant: ACME\nenvironment: test\ncreated: yesterday\n",
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, ConfigFile), []byte(text), 0o600))
		if _, err := Open(dir, passphrase); err == nil || !strings.Contains(err.Error(), ConfigFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongPassphrase(t *testing.T) {
	t.Parallel()
	dir := deployment(t, keyset.Test).Dir()
	d, err := OpenAt(dir, secret.From([]byte("another passphrase")), clock)
	must(t, err)
	defer d.Close()
	for name, call := range map[string]func() error{
		"service":    func() error { _, err := d.ServiceCredential(ServiceDecrypt); return err },
		"operator":   func() error { _, err := d.Operator(FirstOperator); return err },
		"keyring":    func() error { _, err := d.Keyring(); return err },
		"issuer":     func() error { _, err := d.Issuer(identity.TerminalCA); return err },
		"checkpoint": func() error { _, err := d.CheckpointKey(); return err },
		"catalog":    func() error { _, err := d.Catalog(); return err },
	} {
		if err := call(); !errors.Is(err, seal.ErrPassphrase) {
			t.Errorf("%s: got %v, want %v", name, err, seal.ErrPassphrase)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	for _, name := range []string{"", "..", "../operators/OPERATOR-1", "OPERATOR-1/..", "operator-1", "OPERATOR-2", "A\x00"} {
		if p, err := d.Operator(name); err == nil {
			t.Errorf("Operator(%q) = %v", name, p)
		}
		if _, err := d.ServiceCredential(name); err == nil {
			t.Errorf("ServiceCredential(%q)", name)
		}
	}
	if _, err := d.Issuer(0); err == nil {
		t.Error("an issuer of no authority")
	}
	// The folder of one person with the certificate of another.
	must(t, os.Rename(d.Path("operators", FirstAuditor), d.Path("operators", "OPERATOR-2")))
	if p, err := d.Operator("OPERATOR-2"); err == nil {
		t.Errorf("the auditor passed for %v", p)
	}
	// A key that others can read.
	must(t, os.Chmod(d.Path("services", ServiceDecrypt, keyFile), 0o644))
	if _, err := d.ServiceCredential(ServiceDecrypt); err == nil {
		t.Error("an exposed key was opened")
	}
	// The key of another certificate.
	must(t, os.Rename(d.Path("operators", FirstOperator, keyFile), d.Path("services", ServiceAcquirer, keyFile)))
	if _, err := d.ServiceCredential(ServiceAcquirer); err == nil {
		t.Error("another certificate's key was taken")
	}
}
