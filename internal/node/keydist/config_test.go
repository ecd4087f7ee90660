package keydist

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
first-after:
  CARDS: FFFF9876543210E00000
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
	if c.Listen != "127.0.0.1:8448" || c.Admin != "127.0.0.1:9448" || c.Instance != "KDH-1" || c.Database != "keyd.db" ||
		c.MakerRoots != "" || c.AttestedSerials != "" || time.Duration(c.CheckpointEvery) != time.Minute {
		t.Errorf("defaults %+v", c)
	}
}

// TestConfigRefuses has one case for every rule; each text differs from the good one in one place.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, old, new, want string }{
		{"unknown member", "tenant:", "colour: red\ntenant:", "colour"},
		{"repeated member", "tenant: ACME", "tenant: ACME\ntenant: ACME", "tenant"},
		{"second document", "tenant:", "---\n{}\n---\ntenant:", "document"},
		{"no tenant", "tenant: ACME\n", "", "tenant"},
		{"bad tenant", "ACME", "acme", "tenant"},
		{"bad environment", "environment: test", "environment: staging", "environment"},
		{"no passphrase", "passphrase-file: pass\n", "", "passphrase-file"},
		{"bad instance", "tenant:", "instance: \"a b\"\ntenant:", "instance"},
		{"address without port", "tenant:", "listen: localhost\ntenant:", "listen"},
		{"admin without port", "tenant:", "admin: localhost\ntenant:", "admin"},
		{"no database", "tenant:", "database: \"\"\ntenant:", "database"},
		{"no signer", "tenant:", "signer-certificate: \"\"\ntenant:", "signer-certificate"},
		{"no key of the signer", "tenant:", "signer-key: \"\"\ntenant:", "signer-key"},
		{"no issuer", "tenant:", "issuer: \"\"\ntenant:", "issuer"},
		{"duration out of range", "tenant:", "checkpoint-every: 2h\ntenant:", "checkpoint-every"},
		{"key set that is none", "CARDS", "cards", "first-after"},
		{"key id that is none", "FFFF9876543210E00000", "FFFF", "first-after"},
		{"key id with a counter", "FFFF9876543210E00000", "FFFF9876543210E00001", "first-after"},
		{"key id in small letters", "FFFF9876543210E00000", "ffff9876543210e00000", "first-after"},
		{"key set twice", "  CARDS", "  CARDS: FFFF9876543210E00000\n  CARDS", "CARDS"},
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
	file := filepath.Join(dir, "keyd.yaml")
	if err := os.WriteFile(file, []byte(goodConfig+"folder: pos\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(file)
	if err != nil || c.Folder != filepath.Join(dir, "pos") {
		t.Errorf("folder %s, %v", c.Folder, err)
	}
}

// FuzzParseConfig holds the reader of the file to refusing or giving what Check can decide on.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("first-after: [}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if c.Check() == nil && (c.Tenant == "" || c.PassphraseFile == "" || c.Database == "") {
			t.Errorf("%q passes without what is required", b)
		}
	})
}
