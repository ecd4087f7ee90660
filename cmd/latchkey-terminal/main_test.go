package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/sealertest"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

func TestMain(m *testing.M) {
	testscript.Main(withTokens{m}, map[string]func(){"latchkey-terminal": main})
}

// withTokens runs the tests, for which there may be tokens.
type withTokens struct{ m *testing.M }

func (w withTokens) Run() int { return hsmtest.Binary(w.m, 20) }

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
		"blank": "\n", "mistyped": "4111111111111112\n", "tooshort": "42000000000\n", "spaced": "4111 1111 1111 1111\n",
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
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
// $TRUST_URL are where that listens, $ACQUIRER is where the acquirer does, and the file ticket opens the authority. The command
// "order" has the operator order a new key for the data slot, "busy" and "ready" end and begin the authority's readiness,
// "unheard" and "heard" that of the acquirer to hear of keys; "allow" has it allow sales without it, "block" and "unblock" have the host hold what comes, "shut" and
// "open" have the acquirer refuse the certificate, "inactive" and "active" have it refuse messages. "production" makes the
// authority one of production, and "unsuited" takes the PIN slot away.
func TestEnrolScripts(t *testing.T) {
	t.Parallel()
	enrolScripts(t, "enrol", nil)
}

// TestTokenScripts is TestEnrolScripts for terminals that a key in a token guards. The variables are MODULE, LABEL, which is that
// of an empty token, and OTHER, that of another one; their PIN is in the file tokenpin.
func TestTokenScripts(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	token, other := hsmtest.New(t), hsmtest.New(t)
	bundle, err := terminal.SealBundle(secret.From([]byte(code)), terminaltest.NewLab(t, dukpt.AES).Bundle(t,
		terminal.Endpoint{URL: "https://127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	enrolScripts(t, "token", func(env *testscript.Env) error {
		env.Setenv("SOFTHSM2_CONF", os.Getenv("SOFTHSM2_CONF"))
		env.Setenv("MODULE", token.Module)
		env.Setenv("LABEL", token.Label)
		env.Setenv("OTHER", other.Label)
		return errors.Join(os.WriteFile(filepath.Join(env.WorkDir, "tokenpin"), []byte(hsmtest.PIN+"\n"), 0o600),
			os.WriteFile(filepath.Join(env.WorkDir, "badpin"), []byte("00000000\n"), 0o600),
			os.WriteFile(filepath.Join(env.WorkDir, "open"), []byte(hsmtest.PIN+"\n"), 0o644),
			os.WriteFile(filepath.Join(env.WorkDir, "t1.bundle"), bundle, 0o600),
			os.WriteFile(filepath.Join(env.WorkDir, "code"), []byte(code+"\n"), 0o600))
	})
}

// TestTokenSealer runs the suite of sealers as this program uses one.
func TestTokenSealer(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	token := hsmtest.New(t)
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte(hsmtest.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	devices := 0
	sealertest.Run(t, func(*testing.T) sealertest.Device {
		devices++
		uri := fmt.Sprintf("pkcs11:token=%s;object=storage-%d?module-path=%s", token.Label, devices, token.Module)
		made := false
		return sealertest.Device{Open: func(t *testing.T) terminal.Sealer {
			a := &app{stdin: strings.NewReader(""), stderr: io.Discard, element: element{uri: uri, pinFile: pin}}
			t.Cleanup(func() {
				if err := a.element.close(); err != nil {
					t.Error(err)
				}
			})
			s, err := a.sealer(nil, !made)
			if err != nil {
				t.Fatal(err)
			}
			made = true
			return s
		}}
	})
}

// enrolScripts runs the scripts in a folder of testdata, after more set-up.
func enrolScripts(t *testing.T, dir string, more func(*testscript.Env) error) {
	type site struct {
		lab                                                *terminaltest.Lab
		ra                                                 *terminaltest.RA
		busy, held, shut, inactive, production, withoutPIN atomic.Bool
	}
	command := func(f func(*site)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, _ bool, _ []string) { f(ts.Value("site").(*site)) }
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", dir),
		Setup: func(env *testscript.Env) error {
			lab := terminaltest.NewLab(t, dukpt.AES)
			ra := terminaltest.NewRA(t, lab)
			acquirer := terminaltest.NewAcquirer(t, lab)
			ra.Endpoints(acquirer.URL)
			s := &site{lab: lab, ra: ra}
			acquirer.Admit = func() error {
				if s.shut.Load() {
					return errors.New("revoked")
				}
				return nil
			}
			acquirer.Refuse = func() *terminal.HostError {
				if s.inactive.Load() {
					return &terminal.HostError{Status: 403, Code: "TerminalNotActive", Message: "the terminal is not active yet"}
				}
				return nil
			}
			lab.Host.Decide = func(p *message.Payload) message.Result {
				if s.held.Load() {
					return message.Held
				}
				return message.Approved
			}
			ra.Assign = func(a *remote.Assignment) {
				if s.production.Load() {
					a.Environment = keyset.Production
				}
				if s.withoutPIN.Load() {
					a.Slots = a.Slots[:1]
				}
			}
			ra.Refuse = func(string) *enroll.Refusal {
				if !s.busy.Load() {
					return nil
				}
				return &enroll.Refusal{Status: 503, Code: "Busy", Message: "too many at once", RetryAfter: 7 * time.Second}
			}
			env.Values["site"] = s
			if more != nil {
				if err := more(env); err != nil {
					return err
				}
			}
			env.Setenv("URL", ra.URL)
			env.Setenv("TRUST_URL", ra.TrustURL)
			env.Setenv("ACQUIRER", acquirer.URL)
			env.Setenv("NO_TLS_URL", "https"+strings.TrimPrefix(ra.TrustURL, "http"))
			env.Setenv("TLS_TRUST_URL", "http"+strings.TrimPrefix(ra.URL, "https"))
			ticket := ra.Ticket(t)
			defer ticket.Wipe()
			typed := string(ticket.Code.Expose()) + "-" + ticket.Pin.String() + "\n"
			for name, content := range map[string]string{
				"ticket": typed, "wrong": "1" + typed[1:], "stranger": typed[:27] + strings.Repeat("0", 26) + "\n",
				"card": ";4761739001010119=29122010123456789?\n", "pin": "1234\n", "blank": "\n",
				"slip": "latchkey-enrol 1\ntenant ACME\nterminal T-0001\nenvironment test\nurl " + ra.URL + "\ntrust-url " + ra.TrustURL + "\nticket " + typed,
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			if err := writeCodes(filepath.Join(env.WorkDir, "codes"), strings.TrimSpace(typed)); err != nil {
				return err
			}
			return makeDevice(env.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"order":   command(func(s *site) { s.ra.Order(terminaltest.DataSlot) }),
			"busy":    command(func(s *site) { s.busy.Store(true) }),
			"ready":   command(func(s *site) { s.busy.Store(false) }),
			"unheard": command(func(s *site) { s.lab.Host.Deaf(true) }),
			"heard":   command(func(s *site) { s.lab.Host.Deaf(false) }),
			"allow": command(func(s *site) {
				s.lab.Host.Limits = &message.Limits{
					Count: 2, Bytes: 1 << 20, AgeSeconds: 86400, Amount: message.Amount{Minor: 10000, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
				}
			}),
			"block":      command(func(s *site) { s.held.Store(true) }),
			"unblock":    command(func(s *site) { s.held.Store(false) }),
			"shut":       command(func(s *site) { s.shut.Store(true) }),
			"open":       command(func(s *site) { s.shut.Store(false) }),
			"inactive":   command(func(s *site) { s.inactive.Store(true) }),
			"active":     command(func(s *site) { s.inactive.Store(false) }),
			"production": command(func(s *site) { s.production.Store(true) }),
			"unsuited":   command(func(s *site) { s.withoutPIN.Store(true) }),
			"attested": func(ts *testscript.TestScript, neg bool, _ []string) {
				if ts.Value("site").(*site).ra.Attested() == neg {
					ts.Fatalf("the last request was attested: %t", !neg)
				}
			},
		},
	})
}

// exits runs a program and demands its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err = ts.Exec(args[1], args[2:]...); err != nil {
		ended, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = ended.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
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

// TestAddressed: who is not the registration authority that is meant says so in different ways.
func TestAddressed(t *testing.T) {
	t.Parallel()
	alert := &net.OpError{Op: "remote error", Err: tls.AlertError(116)}
	at := func(address string, err error) error { return &url.Error{Op: "Get", URL: address, Err: err} }
	const ra, list = "https://ra.example:8446/trust-list", "http://ra.example:8447/trust-list"
	for _, c := range []struct {
		name, step string
		err        error
		code       exit.Code
		hint       string // is part of it
	}{
		{"a listener that wants a certificate", "trust list", at(ra, alert), exit.Refused, "not the one for terminals: check --url"},
		{"the right one, which refuses the certificate", "initial keys", at(ra, alert), exit.Refused, "refuses this terminal's certificate"},
		{"the right one, which has revoked it", "initial keys", at(ra, &net.OpError{Op: "remote error", Err: tls.AlertError(42)}), exit.Refused, "latchkey terminal show"},
		{"the right one, which denies access", "initial keys", at(ra, &net.OpError{Op: "remote error", Err: tls.AlertError(49)}), exit.Refused, "latchkey terminal show"},
		{"an alert about the stapled status", "initial keys", at(ra, &net.OpError{Op: "remote error", Err: tls.AlertError(113)}), exit.Unreachable, "check the network"},
		{"an alert of another kind", "initial keys", at(ra, &net.OpError{Op: "remote error", Err: tls.AlertError(80)}), exit.Unreachable, "check the network"},
		{"no TLS", "trust list", at(ra, http.ErrSchemeMismatch), exit.Unreachable, "no TLS: check --url"},
		{"nobody", "initial keys", at(ra, context.DeadlineExceeded), exit.Unreachable, "network and --url"},
		{"nobody who publishes", "trust list", at(list, context.DeadlineExceeded), exit.Unreachable, "network and --trust-url"},
		{"who publishes something else", "trust list", &enroll.Refusal{Status: 404, Code: "NotFound", Hint: "x"}, exit.Refused, "--trust-url http://HOST:PORT"},
		{"who publishes nothing now", "trust list", &enroll.Refusal{Status: 503, Code: "TrustListUnavailable", Hint: "later"}, exit.Unreachable, "later"},
		{"an authority that refuses", "initial keys", &enroll.Refusal{Status: 404, Code: "NotFound", Hint: "x"}, exit.Refused, "x"},
		{"another service", "trust list", at(ra, fmt.Errorf("%w: role", tlsconf.ErrRefused)), exit.Verification, "check --url"},
		{"a server of strangers", "trust list", at(ra, &tls.CertificateVerificationError{Err: errors.New("unknown")}), exit.Verification, "trust list is published"},
	} {
		err := explain(addressed(c.step, c.err))
		e, ok := errors.AsType[*exit.Error](err)
		if !ok || e.Code != c.code || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %v, code %d, %q, want code %d and a hint about %q", c.name, err, exit.CodeOf(err), e.Hint, c.code, c.hint)
		}
	}
}

func TestPlausible(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]bool{
		"4111111111111111": true, "4761739001010119": true, "5555555555554444": true, "378282246310005": true, "6759649826438453": true,
		"676770000008": false, "501800000009": true, "6304000000000000000": true,
		"4111111111111112": false, "4111111111111121": false, "1411111111111111": false,
		"": false, "0": false, "00000000000": false, "000000000000": true, "0000000000000000000": true, "00000000000000000000": false,
		"411111111111111a": false, "4111111111111111\n": false, " 4111111111111111": false, "4111-1111-1111-1111": false, ";4111111111111111=": false,
	} {
		if got := plausible([]byte(number)); got != want {
			t.Errorf("plausible(%q) = %v, want %v", number, got, want)
		}
	}
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

// TestDeafToken has a module not return from a call when the token is open: the command ends.
func TestDeafToken(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	d, dir := hsmtest.NewDeaf(t, hsmtest.New(t)), t.TempDir()
	d.Hang("C_GenerateKey")
	bundle, err := terminal.SealBundle(secret.From([]byte(code)), terminaltest.NewLab(t, dukpt.AES).Bundle(t, terminal.Endpoint{URL: "https://127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"t1.bundle": string(bundle), "code": code, "pin": hsmtest.PIN} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err = run(t.Context(), []string{
		"import", "--bundle", filepath.Join(dir, "t1.bundle"), "--code-file", filepath.Join(dir, "code"), "--dir", filepath.Join(dir, "t1"),
		"--sealer", "pkcs11:token=" + d.Label + ";object=storage?module-path=" + d.Module, "--sealer-pin-file", filepath.Join(dir, "pin"),
	}, strings.NewReader(""), io.Discard, io.Discard)
	if !errors.Is(err, hsm.ErrStuck) || exit.CodeOf(err) != exit.Unreachable || !strings.Contains(err.Error(), "C_GenerateKey") {
		t.Errorf("got %v", err)
	}
}
