package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"latchkey-terminal": main})
}

const code = "correct horse battery"

// TestScripts runs the program as a user does. Each script finds a bundle, its code, a card and a PIN.
func TestScripts(t *testing.T) {
	t.Parallel()
	sealed, err := terminal.SealBundle(secret.From([]byte(code)), terminaltest.NewLab(t, dukpt.AES).Bundle(t,
		terminal.Endpoint{URL: "https://127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"t1.bundle": string(sealed), "code": code + "\n", "wrong": "another twelve bytes\n",
		"card": ";4761739001010119=29122010123456789?\n", "pan": "4111111111111111\n", "pin": "1234\n", "short": "12\n",
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// TestEnrolScripts runs the commands that need a registration authority, each script against one of its own. $URL and
// $TRUST_URL are where that listens, and the file ticket opens it. The command "order" has the operator order a new key for
// the data slot, "busy" and "ready" end and begin its readiness, "unheard" and "heard" that of the acquirer to hear of keys.
func TestEnrolScripts(t *testing.T) {
	t.Parallel()
	type site struct {
		lab  *terminaltest.Lab
		ra   *terminaltest.RA
		busy atomic.Bool
	}
	command := func(f func(*site)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, _ bool, _ []string) { f(ts.Value("site").(*site)) }
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "enrol"),
		Setup: func(env *testscript.Env) error {
			lab := terminaltest.NewLab(t, dukpt.AES)
			ra := terminaltest.NewRA(t, lab)
			ra.Endpoints(terminaltest.NewAcquirer(t, lab).URL)
			s := &site{lab: lab, ra: ra}
			ra.Refuse = func(string) *enroll.Refusal {
				if !s.busy.Load() {
					return nil
				}
				return &enroll.Refusal{Status: 503, Code: "Busy", Message: "too many at once", RetryAfter: 7 * time.Second}
			}
			env.Values["site"] = s
			env.Setenv("URL", ra.URL)
			env.Setenv("TRUST_URL", ra.TrustURL)
			ticket := ra.Ticket(t)
			defer ticket.Wipe()
			typed := string(ticket.Code.Expose()) + "-" + ticket.Pin.String() + "\n"
			for name, content := range map[string]string{
				"ticket": typed, "wrong": "1" + typed[1:], "stranger": typed[:27] + strings.Repeat("0", 26) + "\n",
				"card": ";4761739001010119=29122010123456789?\n",
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			return makeDevice(env.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"order":   command(func(s *site) { s.ra.Order(terminaltest.DataSlot) }),
			"busy":    command(func(s *site) { s.busy.Store(true) }),
			"ready":   command(func(s *site) { s.busy.Store(false) }),
			"unheard": command(func(s *site) { s.lab.Host.Deaf(true) }),
			"heard":   command(func(s *site) { s.lab.Host.Deaf(false) }),
			"attested": func(ts *testscript.TestScript, neg bool, _ []string) {
				if ts.Value("site").(*site).ra.Attested() == neg {
					ts.Fatalf("the last request was attested: %t", !neg)
				}
			},
		},
	})
}

// makeDevice writes what the maker of a device gives: an agreement key with its certificates, and another key.
func makeDevice(dir string) error {
	maker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := func(serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "maker", SerialNumber: "SN-1"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	facility := template(1)
	facility.IsCA, facility.BasicConstraintsValid, facility.KeyUsage = true, true, x509.KeyUsageCertSign
	above, err := x509.CreateCertificate(rand.Reader, facility, facility, maker.Public(), maker)
	if err != nil {
		return err
	}
	for name, curve := range map[string]elliptic.Curve{"key.pem": elliptic.P256(), "other.pem": elliptic.P256(), "weak.pem": elliptic.P224()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := writePEM(filepath.Join(dir, name), "PRIVATE KEY", der); err != nil {
			return err
		}
		if name != "key.pem" {
			continue
		}
		leaf, err := x509.CreateCertificate(rand.Reader, template(2), facility, key.Public(), maker)
		if err != nil {
			return err
		}
		if err := writePEM(filepath.Join(dir, "chain.pem"), "CERTIFICATE", leaf, above); err != nil {
			return err
		}
	}
	return nil
}

func writePEM(path, kind string, blocks ...[]byte) error {
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	return os.WriteFile(path, text, 0o600)
}

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ amount, currency, want string }{
		{"12.34", "EUR", "12.34 EUR"}, {"12.3", "978", "12.30 EUR"}, {"12", "EUR", "12.00 EUR"}, {"500", "JPY", "500 JPY"},
		{"1.234", "KWD", "1.234 KWD"}, {"0.01", "USD", "0.01 USD"},
		{"12.345", "EUR", ""}, {"500.5", "JPY", ""}, {"", "EUR", ""}, {"-1", "EUR", ""}, {"+1", "EUR", ""}, {"1.", "EUR", ""},
		{".5", "EUR", ""}, {"1,50", "EUR", ""}, {"0", "EUR", ""}, {"99999999999999", "EUR", ""}, {"1", "XXX", ""}, {"1", "eur", ""},
	} {
		a, err := parseAmount(c.amount, c.currency)
		if got := a.String(); (err == nil) != (c.want != "") || err == nil && got != c.want {
			t.Errorf("%s %s: %s, %v, want %q", c.amount, c.currency, got, err, c.want)
		}
	}
}

// TestMakeFolder makes a folder three deep and one that is there: each name made is made durable in the folder above it.
func TestMakeFolder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	var synced []string
	note := func(dir string) error { synced = append(synced, dir); return nil }
	for _, want := range [][]string{{filepath.Dir(deep), filepath.Join(root, "a"), root}, {filepath.Dir(deep)}} {
		synced = nil
		if err := makeFolder(deep+"/", note); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(deep); err != nil || !info.IsDir() {
			t.Fatalf("%s is not there: %v", deep, err)
		}
		if !slices.Equal(synced, want) {
			t.Errorf("synced %q, want %q", synced, want)
		}
	}
	broken := errors.New("broken")
	if err := makeFolder(deep, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a folder that is not durable: %v, want the error of its sync", err)
	}
	closed := func(string) error { return fs.ErrPermission }
	if err := makeFolder(deep, closed); err != nil {
		t.Errorf("a folder made by somebody else: %v", err)
	}
	if err := makeFolder(filepath.Join(root, "new"), closed); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a new folder that is not durable: %v, want the error of its sync", err)
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeFolder(filepath.Join(file, "below"), note); err == nil {
		t.Error("a folder below a file is made")
	}
}

// TestImportMakesNamesDurable holds the import to a folder whose name is durable before any key is in it.
func TestImportMakesNamesDurable(t *testing.T) {
	dir := t.TempDir()
	sealed, err := terminal.SealBundle(secret.From([]byte(code)), terminaltest.NewLab(t, dukpt.AES).Bundle(t))
	if err != nil {
		t.Fatal(err)
	}
	bundle, codeFile := filepath.Join(dir, "bundle"), filepath.Join(dir, "code")
	for name, b := range map[string][]byte{bundle: sealed, codeFile: []byte(code)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	testOnlySyncDir = func(string) error { return broken }
	t.Cleanup(func() { testOnlySyncDir = seal.SyncDir })
	a := &app{dir: filepath.Join(dir, "t1"), stdout: io.Discard, stderr: io.Discard}
	if err := a.importBundle(bundle, codeFile); !errors.Is(err, broken) {
		t.Errorf("%v, want the error of the sync", err)
	}
	if left, err := os.ReadDir(a.dir); err != nil || len(left) != 0 {
		t.Errorf("%d files in a folder that may be lost, %v", len(left), err)
	}
}
