package e2e

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
)

// The keys of the published vectors, and zone keys that the tests can open blocks with.
var (
	vectorTDES = []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10")
	vectorAES  = []byte("\xfe\xdc\xba\x98\x76\x54\x32\x10\xf1\xf1\xf1\xf1\xf1\xf1\xf1\xf1")
	zoneTDES   = []byte("\x2f\x31\x40\x57\x68\x79\x8a\x9b\xad\xbc\xcb\xda\xe9\xf8\x01\x10")
	otherZone  = []byte("\x2c\x31\x40\x57\x68\x79\x8a\x9b\xad\xbc\xcb\xda\xe9\xf8\x01\x10")
	fixedAES   = []byte("fixed AES key 16")
	cmacAES    = []byte("\x2b\x7e\x15\x16\x28\xae\xd2\xa6\xab\xf7\x15\x88\x09\xcf\x4f\x3c") // of NIST SP 800-38B, D.1
	fixedHMAC  = []byte("an HMAC key of thirty-two bytes.")
	fixedKEK   = []byte("a key encryption key, 32 bytes .")
	zoneAES    = []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
)

// awsSite is a deployment whose base keys are those of the vectors, with a terminal of each, and the files of a client.
type awsSite struct {
	dir     string
	modules string // folder with node_modules
}

func newAWSSite(t *testing.T) *awsSite {
	t.Helper()
	s := &awsSite{dir: filepath.Join(t.TempDir(), "pos"), modules: sdk(t)}
	pass := secret.From([]byte(passphraseText))
	d, err := deploy.Create(s.dir, deploy.Options{Tenant: tenant, Environment: keyset.Test, Passphrase: pass})
	check(t, err)
	importKey(t, d, "alias/zone-tdes", keys.TDES2, keys.UsagePIN, keys.ModeEncrypt, zoneTDES)
	importKey(t, d, "alias/zone-aes", keys.AES128, keys.UsagePIN, keys.ModeEncrypt, zoneAES)
	importKey(t, d, "alias/tpk", keys.TDES2, keys.UsagePIN, keys.ModeDecrypt, otherZone)
	importKey(t, d, "alias/data", keys.AES128, keys.UsageData, keys.ModeBoth, fixedAES)
	importKey(t, d, "alias/mac", keys.AES128, keys.UsageMACCMAC, keys.ModeGenVerify, cmacAES)
	importKey(t, d, "alias/hmac", keys.HMAC256, keys.UsageHMAC, keys.ModeGenVerify, fixedHMAC)
	importKey(t, d, "alias/kek", keys.AES256, keys.UsageKBPK, keys.ModeBoth, fixedKEK)
	usages := []keyset.Usage{keyset.UsagePIN, keyset.UsageData, keyset.UsageMAC}
	tdes, aes := keyset.NewDefaults(dukpt.TDES, usages...), keyset.NewDefaults(dukpt.AES, usages...)
	tdes.MAC.Padding = dukpt.MACPadding1 // as in the vectors
	s.keySet(t, d, tdes, "TDES", importKey(t, d, "alias/bdk-tdes", keys.TDES2, keys.UsageBDK, keys.ModeDerive, vectorTDES), "FFFF9876543210E00000", "alias/zone-tdes")
	s.keySet(t, d, aes, "AES", importKey(t, d, "alias/bdk-aes", keys.AES128, keys.UsageBDK, keys.ModeDerive, vectorAES), "1234567890123456", "alias/zone-aes")
	operator, err := d.Operator(deploy.FirstOperator)
	check(t, err)
	for _, set := range []keyset.ID{"TDES", "AES"} {
		_, err := d.RegisterTerminal(t.Context(), deploy.Registration{
			ID: keyset.TerminalID("T-" + set), Slots: []deploy.SlotRequest{{Slot: 1, KeySet: set}}, Passphrase: deploy.NewBundlePassphrase(),
			Endpoints: []terminal.Endpoint{{URL: "https://127.0.0.1:1"}}, Signers: []*deploy.Person{operator},
		})
		check(t, err)
	}
	check(t, d.Close())
	s.credentials(t)
	return s
}

func importKey(t *testing.T, d *deploy.Deployment, name string, a keys.Algorithm, usage keys.Usage, mode keys.Mode, material []byte) engine.KeyInfo {
	t.Helper()
	ring, err := d.Keyring()
	check(t, err)
	ref, err := keyset.ParseKeyRef(name)
	check(t, err)
	k, err := keys.NewKey(keys.Attributes{Algorithm: a, Usage: usage, Mode: mode, Exportability: keys.NonExportable}, material)
	check(t, err)
	defer k.Wipe()
	info, err := ring.Import(ref, k, keyset.Test)
	check(t, err)
	return info
}

// keySet saves a set with one key id. Its counters are claimed only: the vectors are from all over the range.
func (s *awsSite) keySet(t *testing.T, d *deploy.Deployment, k *keyset.KeySet, id keyset.ID, base engine.KeyInfo, first, zone string) {
	t.Helper()
	k.ID, k.Tenant, k.Environment, k.BaseKey, k.BaseKeyFingerprint, k.Delivery = id, tenant, keyset.Test, base.Ref, base.Fingerprint, keyset.DeliveryNone
	k.Counter, k.W, k.J = keyset.ClaimedOnly, 0, 0
	var err error
	k.FirstID, err = dukpt.ParseKeyID(first)
	check(t, err)
	k.LastID = k.FirstID
	ref, err := keyset.ParseKeyRef(zone)
	check(t, err)
	k.OutgoingPINKeys = []keyset.KeyRef{ref}
	check(t, sample.Save(d, k))
}

// credentials writes what docs/aws.md calls host.pem, host.key and services.pem: the host makes its key, and the operator has it
// certified.
func (s *awsSite) credentials(t *testing.T) {
	t.Helper()
	key := newKey(t)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(s.file("host.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	check(t, err)
	check(t, os.WriteFile(s.file("host.csr"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), 0o600))
	check(t, os.WriteFile(s.file("passphrase"), []byte(passphraseText+"\n"), 0o600))
	host := func(csr string) (string, int) {
		out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "service", "host", "ACQ-1",
			"--csr", s.file(csr), "--file", s.file("host.pem"), "--dir", s.dir, "--passphrase-file", s.file("passphrase"))
		return out + errs, code
	}
	if out, code := host("host.key"); code != 6 {
		t.Fatalf("a key for a request: ends with %d: %s", code, out)
	}
	if out, code := host("host.csr"); code != 0 {
		t.Fatalf("service host ends with %d: %s", code, out)
	}
	if out, code := host("host.csr"); code != 4 {
		t.Fatalf("to the same file: ends with %d: %s", code, out)
	}
	root, err := os.ReadFile(filepath.Join(s.dir, "trust", "services.pem"))
	check(t, err)
	check(t, os.WriteFile(s.file("services.pem"), root, 0o600))
}

func (s *awsSite) file(name string) string { return filepath.Join(s.dir, name) }

// start runs the service with a database of its own, and says where it listens. What it returns ends it and verifies its audit log.
func (s *awsSite) start(t *testing.T, name string) (endpoint string, stop func()) {
	t.Helper()
	endpoint, _, stop = s.startWith(t, name)
	return endpoint, stop
}

// startWith is start that says the address for operators, too.
func (s *awsSite) startWith(t *testing.T, name string) (endpoint, admin string, stop func()) {
	t.Helper()
	config := s.file(name + ".yaml")
	text := fmt.Sprintf("tenant: %s\nenvironment: test\npassphrase-file: passphrase\ndatabase: %s.db\ncheckpoint-file: audit/%s\ncallers:\n", tenant, name, name) +
		"  - name: ACQ-1\n    pin-keys: [alias/zone-tdes, alias/zone-aes]\n" +
		"    keys:\n      - {key: alias/tpk, for: [translate-pin-from]}\n      - {key: alias/data, for: [decrypt-data, encrypt-data, re-encrypt-from, re-encrypt-to]}\n" +
		"      - {key: alias/mac, for: [generate-mac, verify-mac]}\n      - {key: alias/hmac, for: [generate-mac, verify-mac]}\n" +
		"      - {key: alias/kek, for: [decrypt-data], wraps: [D0]}\nlimits: {pin-block: {burst: 3, count: 1, per: 1h}}\n"
	check(t, os.WriteFile(config, []byte(text), 0o600))
	d := newService("latchkey-decryptd", config, "listen", "admin")
	d.start(t, binaries.shipped)
	t.Cleanup(d.end)
	return "https://" + d.doors["listen"], d.doors["admin"], func() {
		d.stop(t)
		verifyAudit(t, s.dir, name+".db", "checkpoint.pub")
	}
}

// sdk returns a folder with the node_modules of testdata/aws, which the lock file pins. They are kept beside the module's other
// tools, for installing them takes longer than the tests.
func sdk(t *testing.T) string {
	t.Helper()
	testvec.Program(t, "node")
	testvec.Program(t, "npm")
	lock, err := os.ReadFile("testdata/aws/package-lock.json")
	check(t, err)
	manifest, err := os.ReadFile("testdata/aws/package.json")
	check(t, err)
	sum := sha256.Sum256(append(lock, manifest...))
	cache, err := filepath.Abs("../../.cache")
	check(t, err)
	dir := filepath.Join(cache, "aws-sdk-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir
	} else if !os.IsNotExist(err) {
		t.Fatal(err)
	}
	check(t, os.MkdirAll(cache, 0o755))
	work, err := os.MkdirTemp(cache, "aws-sdk-work-")
	check(t, err)
	defer os.RemoveAll(work)
	check(t, os.WriteFile(filepath.Join(work, "package-lock.json"), lock, 0o644))
	check(t, os.WriteFile(filepath.Join(work, "package.json"), manifest, 0o644))
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(work, dir); err != nil && !os.IsExist(err) {
		if _, there := os.Stat(dir); there != nil { // else another test binary was faster
			t.Fatal(err)
		}
	}
	return dir
}

// driver is a process with the SDK that makes one call after the other.
type driver struct {
	t     *testing.T
	in    io.WriteCloser
	out   *bufio.Reader
	admin string // address for operators of its service
}

// answer is what the SDK makes of an answer of the service.
type answer struct {
	Data  map[string]string
	Error *struct {
		Code, Message string
		Status        int
		Retryable     bool
	}
}

// drive starts a service and a process with the SDK. What it returns ends both.
func (s *awsSite) drive(t *testing.T, name string) (_ *driver, stop func()) {
	t.Helper()
	endpoint, admin, end := s.startWith(t, name)
	settings, err := json.Marshal(map[string]string{
		"endpoint": endpoint, "cert": s.file("host.pem"), "key": s.file("host.key"), "ca": s.file("services.pem"),
	})
	check(t, err)
	config := filepath.Join(t.TempDir(), "to.json")
	check(t, os.WriteFile(config, settings, 0o600))
	script, err := os.ReadFile("testdata/aws/driver.js")
	check(t, err)
	cmd := s.node(t, string(script), config)
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	return &driver{t: t, in: in, out: bufio.NewReader(out), admin: admin}, func() {
		_ = in.Close() // it ends by that
		check(t, cmd.Wait())
		end()
	}
}

// node is a script that finds the SDK.
func (s *awsSite) node(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.js")
	check(t, os.WriteFile(file, []byte(script), 0o600))
	cmd := exec.CommandContext(t.Context(), "node", append([]string{file}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(s.modules, "node_modules"), "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE=1")
	return cmd
}

type members = map[string]any

// call makes one call.
func (d *driver) call(operation string, params members) answer {
	d.t.Helper()
	line, err := json.Marshal(members{"operation": operation, "params": params})
	check(d.t, err)
	_, err = d.in.Write(append(line, '\n'))
	check(d.t, err)
	text, err := d.out.ReadBytes('\n')
	check(d.t, err)
	var a answer
	check(d.t, json.Unmarshal(text, &a))
	return a
}

// answered makes a call that must be answered.
func (d *driver) answered(operation string, params members) map[string]string {
	d.t.Helper()
	a := d.call(operation, params)
	if a.Error != nil {
		d.t.Fatalf("%s %v: %+v", operation, params, *a.Error)
	}
	return a.Data
}

// vectors reads the vectors of a feature under a base key.
func vectors(t *testing.T, file, feature string, base []byte) (out []map[string]any) {
	t.Helper()
	text, err := fs.ReadFile(os.DirFS("../../testdata"), file)
	check(t, err)
	var all struct{ Vectors []map[string]any }
	check(t, json.Unmarshal(text, &all))
	for _, v := range all.Vectors {
		if bdk, _ := v["bdk"].(string); v["feature"] == feature && bdk == fmt.Sprintf("%X", base) {
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		t.Fatalf("no vectors of %s in %s", feature, file)
	}
	return out
}
