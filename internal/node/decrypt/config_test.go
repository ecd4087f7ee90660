package decrypt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodConfig = `tenant: ACME
environment: test
passphrase-file: pass
callers:
  - name: ACQ-1
    pin-keys: [alias/zone-1]
`

func TestDefaultsComeFromTheComments(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:8443" || c.Admin != "127.0.0.1:9443" || c.Instance != "DECRYPT-1" ||
		c.Database != "decryptd.db" || time.Duration(c.CheckpointEvery) != time.Minute {
		t.Errorf("defaults %+v", c)
	}
}

// TestConfigRefuses has one case for every rule; each text differs from the good one in one place.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, old, new, want string }{
		{"unknown member", "tenant:", "colour: red\ntenant:", "colour"},
		{"repeated member", "tenant: ACME", "tenant: ACME\ntenant: ACME", "tenant"},
		{"wrong case", "tenant:", "Tenant:", "Tenant"},
		{"second document", "tenant:", "---\n{}\n---\ntenant:", "document"},
		{"no tenant", "tenant: ACME\n", "", "tenant"},
		{"bad tenant", "ACME", "acme", "tenant"},
		{"no environment", "environment: test\n", "", "environment"},
		{"bad environment", "environment: test", "environment: staging", "environment"},
		{"no passphrase", "passphrase-file: pass\n", "", "passphrase-file"},
		{"bad instance", "tenant:", "instance: \"a b\"\ntenant:", "instance"},
		{"address without port", "tenant:", "listen: localhost\ntenant:", "listen"},
		{"admin without port", "tenant:", "admin: localhost\ntenant:", "admin"},
		{"empty path", "tenant:", "database: \"\"\ntenant:", "database"},
		{"duration without unit", "tenant:", "checkpoint-every: 60\ntenant:", "duration"},
		{"duration out of range", "tenant:", "checkpoint-every: 2h\ntenant:", "checkpoint-every"},
		{"no callers", "callers:\n  - name: ACQ-1\n    pin-keys: [alias/zone-1]\n", "", "callers"},
		{"caller twice", "callers:\n", "callers:\n  - name: ACQ-1\n", "twice"},
		{"bad caller", "ACQ-1", "acq 1", "caller 1"},
		{"key reference upwards", "alias/zone-1", "alias/../zone-1", "pin-keys"},
		{"key reference encoded", "alias/zone-1", "alias%252Fzone-1", "pin-keys"},
		{"unknown member of a caller", "    pin-keys", "    role: admin\n    pin-keys", "role"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(goodConfig, c.old, c.new, 1)
			if text == goodConfig {
				t.Fatal("the case changes nothing")
			}
			config, err := ParseConfig([]byte(text))
			if err == nil {
				err = config.Check()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error about %q for\n%s", err, c.want, text)
			}
		})
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "decryptd.yaml")
	if err := os.WriteFile(file, []byte(goodConfig+"folder: pos\ndatabase: /var/lib/d.db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.path(c.Keyring), filepath.Join(dir, "pos", "keyring"); got != want {
		t.Errorf("keyring at %s, want %s", got, want)
	}
	if got := c.path(c.Database); got != "/var/lib/d.db" {
		t.Errorf("an absolute path became %s", got)
	}
}

// FuzzParseConfig holds the reader of the file to refusing or giving what Check can decide on.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("tenant: [}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if c.Check() == nil && (len(c.Callers) == 0 || c.Tenant == "" || c.PassphraseFile == "") {
			t.Errorf("%q passes without what is required", b)
		}
	})
}
