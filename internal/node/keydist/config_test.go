package keydist

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
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
		c.Attested != "attested" || time.Duration(c.CheckpointEvery) != time.Minute {
		t.Errorf("defaults %+v", c)
	}
}

// TestConfigRefuses has one case for every rule; each text differs from the good one in one place.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	nodetest.RefusesConfig(t, goodConfig, ParseConfig, []nodetest.Changed{
		{"postgres without anything", "tenant:", "postgres:\ntenant:", "postgres"},
		{"postgres with a standby that lags", "tenant:", "postgres: {servers: [/run/postgresql], standby: accept-lag}\ntenant:", "standby"},
		{"postgres and a file", "tenant:", "postgres: {servers: [/run/postgresql]}\ndatabase: a.db\ntenant:", "database"},
		{"address without port", "tenant:", "listen: localhost\ntenant:", "listen"},
		{"no signer", "tenant:", "signer-certificate: \"\"\ntenant:", "signer-certificate"},
		{"no key of the signer", "tenant:", "signer-key: \"\"\ntenant:", "signer-key"},
		{"no folder of makers", "tenant:", "attested: \"\"\ntenant:", "attested"},
		{"a list of devices beside it", "tenant:", "attested-serials: attested.txt\ntenant:", "attested-serials"},
		{"token without anything", "tenant:", "hsm:\ntenant:", "uri"},
		{"token without a module", "tenant:", "hsm: {uri: 'pkcs11:token=a', pin-file: pin}\ntenant:", "module-path"},
		{"cache of derived keys", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin, cache: 5}\ntenant:", "no use for it"},
		{"PIN blocks that nobody has", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin, carry-pins: true}\ntenant:", "no use for it"},
		{"checkpoints in no token", "tenant:", "checkpoint-key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"signer in no token", "tenant:", "signer-key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"listener in no token", "tenant:", "key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"issuer in no token", "tenant:", "issuer-key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"issuer in a file", "tenant:", "issuer-key: issuer.sealed\ntenant:", "issuer-key"},
		{"signer that is no URI", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nsigner-key: 'pkcs11:object'\ntenant:", "signer-key"},
		{"signer in another token", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nsigner-key: 'pkcs11:token=b;object=a'\ntenant:", "signer-key"},
		{"signer without a name", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nsigner-key: 'pkcs11:type=private'\ntenant:", "signer-key"},
		{"no issuer", "tenant:", "issuer: \"\"\ntenant:", "issuer"},
		{"key set that is none", "CARDS", "cards", "first-after"},
		{"key id that is none", "FFFF9876543210E00000", "FFFF", "first-after"},
		{"key id with a counter", "FFFF9876543210E00000", "FFFF9876543210E00001", "first-after"},
		{"key id in small letters", "FFFF9876543210E00000", "ffff9876543210e00000", "first-after"},
		{"key set twice", "  CARDS", "  CARDS: FFFF9876543210E00000\n  CARDS", "CARDS"},
	}...)
}

// FuzzParseConfig holds the reader of the file to refusing or giving what Check can decide on.
func FuzzParseConfig(f *testing.F) {
	nodetest.FuzzConfig(f, goodConfig, ParseConfig, func(c Config) bool {
		return c.Tenant != "" && c.PassphraseFile != "" && c.Database != ""
	})
}
