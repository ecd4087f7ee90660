package provision

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
)

const goodConfig = `tenant: ACME
environment: test
passphrase-file: pass
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
	if c.Terminals != "127.0.0.1:8445" || c.Services != "127.0.0.1:8446" || c.Publication != "127.0.0.1:8447" || c.Admin != "127.0.0.1:9446" ||
		c.Instance != "RA-1" || c.Database != "provisiond.db" || c.Keyd != "https://localhost:8448" ||
		time.Duration(c.CheckpointEvery) != time.Minute || time.Duration(c.Overlap) != 24*time.Hour || time.Duration(c.Drain) != 168*time.Hour {
		t.Errorf("defaults %+v", c)
	}
}

// TestConfigRefuses has one case for every rule; each text differs from the good one in one place.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	nodetest.RefusesConfig(t, goodConfig, ParseConfig, []nodetest.Changed{
		{"terminals without port", "tenant:", "terminals: localhost\ntenant:", "terminals"},
		{"services without port", "tenant:", "services: localhost\ntenant:", "services"},
		{"publication without port", "tenant:", "publication: localhost\ntenant:", "publication"},
		{"no signer", "tenant:", "signer-certificate: \"\"\ntenant:", "signer-certificate"},
		{"no key of the signer", "tenant:", "signer-key: \"\"\ntenant:", "signer-key"},
		{"token without anything", "tenant:", "hsm:\ntenant:", "uri"},
		{"token without a module", "tenant:", "hsm: {uri: 'pkcs11:token=a', pin-file: pin}\ntenant:", "module-path"},
		{"cache of derived keys", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin, cache: 5}\ntenant:", "no use for it"},
		{"signer in no token", "tenant:", "signer-key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"listener in no token", "tenant:", "key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"issuer in no token", "tenant:", "issuer-key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"issuer in a file", "tenant:", "issuer-key: issuer.sealed\ntenant:", "issuer-key"},
		{"signer that is no URI", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nsigner-key: 'pkcs11:object'\ntenant:", "signer-key"},
		{"signer in another token", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nsigner-key: 'pkcs11:token=b;object=a'\ntenant:", "signer-key"},
		{"signer without a name", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nsigner-key: 'pkcs11:type=private'\ntenant:", "signer-key"},
		{"fingerprints", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin, fingerprints: {}}\ntenant:", "no use for it"},
		{"no issuer", "tenant:", "issuer: \"\"\ntenant:", "issuer"},
		{"no pepper", "tenant:", "pepper: \"\"\ntenant:", "pepper"},
		{"no trust list", "tenant:", "trust-list: \"\"\ntenant:", "trust-list"},
		{"no key-distribution host", "tenant:", "keyd: \"\"\ntenant:", "keyd"},
		{"plain key-distribution host", "tenant:", "keyd: http://localhost:8448\ntenant:", "keyd"},
		{"key-distribution host with a path", "tenant:", "keyd: https://localhost:8448/delivery\ntenant:", "keyd"},
		{"key-distribution host with a name in it", "tenant:", "keyd: https://me@localhost:8448\ntenant:", "keyd"},
		{"no overlap", "tenant:", "overlap: 0s\ntenant:", "overlap"},
		{"overlap out of range", "tenant:", "overlap: 25h\ntenant:", "overlap"},
		{"no drain", "tenant:", "drain: 0s\ntenant:", "drain"},
		{"drain out of range", "tenant:", "drain: 8785h\ntenant:", "drain"},
		{"members that only the program sets", "tenant:", "reload: true\ntenant:", "reload"},
	}...)
}

// FuzzParseConfig holds the reader of the file to refusing or giving what Check can decide on.
func FuzzParseConfig(f *testing.F) {
	nodetest.FuzzConfig(f, goodConfig, ParseConfig, func(c Config) bool {
		return c.Tenant != "" && c.PassphraseFile != "" && c.Pepper != "" && c.Keyd != "" && c.Overlap > 0 && c.Drain > 0
	})
}
