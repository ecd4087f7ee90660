package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/pgtest"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{Servers: []Server{{Host: "/run/postgresql"}, {Host: "127.0.0.1", Port: 6432}, {Host: "::1"}, {Host: "localhost"}}, Database: "d", User: "u", Instance: "DECRYPT-1"}
	if err := good.check(); err != nil {
		t.Errorf("good options: %v", err)
	}
	for want, spoil := range map[string]func(*Options){
		"servers: name at least one":          func(o *Options) { o.Servers = nil },
		"servers: \"\"":                       func(o *Options) { o.Servers[0].Host = "" },
		"servers: \"a,b\"":                    func(o *Options) { o.Servers[0].Host = "a,b" },
		"servers: db.example is another mach": func(o *Options) { o.Servers[0].Host = "db.example" },
		"servers: 10.0.0.1 is another machin": func(o *Options) { o.Servers[0].Host = "10.0.0.1" },
		"name: want the database":             func(o *Options) { o.Database = "" },
		"user: want the one":                  func(o *Options) { o.User = "" },
		"schema: \"a.b\"":                     func(o *Options) { o.Schema = "a.b" },
		"schema: \"A\"":                       func(o *Options) { o.Schema = "A" },
		"standby: a server":                   func(o *Options) { o.RequireStandby, o.AcceptLag = true, true },
		"patience: -1ns":                      func(o *Options) { o.Patience = -1 },
		"instance: \"\"":                      func(o *Options) { o.Instance = "" },
		"instance: \"a b\"":                   func(o *Options) { o.Instance = "a b" },
	} {
		o := good
		o.Servers = append([]Server(nil), good.Servers...)
		spoil(&o)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for server, want := range map[Server]string{
		{Host: "/run/postgresql"}: "/run/postgresql/.s.PGSQL.5432", {Host: "::1", Port: 7}: "[::1]:7", {Host: "db", Port: 7}: "db:7",
	} {
		if got := server.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestEnvironment has nothing of the environment decide where a connection goes and as whom.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"PGHOST": "elsewhere", "PGPORT": "1", "PGUSER": "mallory", "PGPASSWORD": "secret", "PGDATABASE": "other", "PGSSLMODE": "require",
		"PGOPTIONS": "-c synchronous_commit=off", "PGTARGETSESSIONATTRS": "standby", "PGCONNECT_TIMEOUT": "1",
	} {
		t.Setenv(name, value)
	}
	o := Options{Servers: []Server{{Host: "127.0.0.1", Port: 7}}, Database: `d'\ b`, User: "u", Instance: "I"}
	c, err := o.config(o.Servers[0])
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "127.0.0.1" || c.Port != 7 || c.User != "u" || c.Password != "" || c.Database != `d'\ b` || c.TLSConfig != nil ||
		c.RuntimeParams["options"] != "" || c.ValidateConnect != nil || len(c.Fallbacks) != 0 {
		t.Errorf("configuration %+v", c.Config)
	}
}

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	file := func(mode os.FileMode, text string) string {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, path := range map[string]string{
		"no such file": filepath.Join(t.TempDir(), "none"), "can be read by others": file(0o640, "secret\n"),
		"want one line": file(0o600, "secret\nmore\n"), " one line": file(0o600, "\n"),
	} {
		_, err := Options{PasswordFile: path}.password()
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if got, err := (Options{PasswordFile: file(0o600, "secret \r\n")}).password(); err != nil || got != "secret " {
		t.Errorf("%q %v", got, err)
	}
}

// TestWrongPassword is told without the password.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t)
	o := inFolder(t, t.TempDir())
	o.Servers = []Server{{Host: "127.0.0.1", Port: uint16(c.Port)}}
	o.PasswordFile = passwordFile(t, "not the password")
	if s, err := Open(t.Context(), o); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "not the password") {
		t.Errorf("open: %v %v", s, err)
	}
}

// TestTLS verifies the certificate of a server, its name included.
func TestTLS(t *testing.T) {
	t.Parallel()
	roots, cert, key := certified(t, "127.0.0.1")
	c := pgtest.Own(t)
	if err := c.Configure("ssl = on", "ssl_cert_file = '"+c.File(t, "server.crt", cert)+"'", "ssl_key_file = '"+c.File(t, "server.key", key)+"'"); err != nil {
		t.Fatal(err)
	}
	c.Reload(t)
	o := options(c, c.Database(t), "latchkey", "DECRYPT-1")
	migrate(t, o)
	o.Servers = []Server{{Host: "127.0.0.1", Port: uint16(c.Port)}}
	o.PasswordFile = passwordFile(t, c.Password)
	other, _, _ := certified(t, "127.0.0.1")
	for name, spoil := range map[string]func(*Options){
		"another root": func(o *Options) { o.RootsFile = other },
		"another name": func(o *Options) { o.RootsFile, o.Servers[0].Host = roots, "localhost" },
		"no root":      func(o *Options) { o.RootsFile = filepath.Join(t.TempDir(), "none") },
	} {
		bad := o
		bad.Servers = append([]Server(nil), o.Servers...)
		spoil(&bad)
		if s, err := Open(t.Context(), bad); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v %v, want %v", name, s, err, ErrUnavailable)
		}
	}
	o.RootsFile = roots
	s := open(t, o)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got := c.Must(t, `SELECT string_agg(DISTINCT version, ',') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'latchkey DECRYPT-1'`); got != "TLSv1.3" {
		t.Errorf("connections with %q, want TLSv1.3", got)
	}
}

// certified makes a root in a file, and a certificate of it for an address, with its key.
func certified(t testing.TB, address string) (roots string, cert, key []byte) {
	t.Helper()
	now := time.Now()
	rootKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root of a test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER := must(x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey))
	leafKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "database"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER := must(x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey))
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, block("CERTIFICATE", rootDER), 0o600); err != nil {
		t.Fatal(err)
	}
	return roots, block("CERTIFICATE", leafDER), block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(leafKey)))
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// TestMigrate makes tables once, however many ask, tells its progress, and is asked for by a store that finds none or others.
func TestMigrate(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t)
	o := options(c, c.Database(t), "", "DECRYPT-1")
	if s, err := Open(t.Context(), o); !errors.Is(err, ErrMissing) {
		t.Errorf("open: %v %v, want %v", s, err, ErrMissing)
	}
	var told []string
	from, to, err := Migrate(t.Context(), o, func(done, of int) { told = append(told, fmt.Sprint(done, "/", of)) })
	if err != nil || from != 0 || to != newest || len(told) != newest+1 || told[0] != fmt.Sprint("0/", newest) {
		t.Errorf("migrate: %d %d %v, told %v", from, to, err, told)
	}
	failed := make(chan error, 4)
	for range cap(failed) {
		go func() {
			from, _, err := Migrate(t.Context(), o, nil)
			if err == nil && from != newest {
				err = fmt.Errorf("from version %d", from)
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Errorf("migrate again: %v", err)
		}
	}
	open(t, o)
	if err := exec(t, o, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`); err != nil {
		t.Fatal(err)
	}
	o.Instance = "DECRYPT-2"
	if s, err := Open(t.Context(), o); !errors.Is(err, ErrNewer) {
		t.Errorf("open: %v %v, want %v", s, err, ErrNewer)
	}
	if _, _, err := Migrate(t.Context(), o, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("migrate: %v, want %v", err, ErrNewer)
	}
}
