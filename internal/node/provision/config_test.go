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
		time.Duration(c.CheckpointEvery) != time.Minute || time.Duration(c.Overlap) != 24*time.Hour || time.Duration(c.Drain) != 168*time.Hour ||
		c.DailyCap != 20 || c.TLS12 != "" || c.ConnectionsPerSource != 256 || c.Renewal.After != 50 || c.Renewal.Before != 75 {
		t.Errorf("defaults %+v", c)
	}
}

func TestVaultDefaults(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]byte(goodConfig + "vault: {address: 'https://v:8200'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if *c.Vault != *DefaultVault("https://v:8200") || c.Vault.Mount != "pki" || c.Vault.Role != "latchkey-terminals" || !c.Vault.Wrapped ||
		c.Vault.Auth != "approle" || c.Vault.AuthMount != "approle" || time.Duration(c.Vault.Timeout) != 2500*time.Millisecond || c.Vault.Concurrent != 8 {
		t.Errorf("defaults %+v", c.Vault)
	}
	c, err = ParseConfig([]byte(goodConfig + "vault: {address: 'https://v:8200', auth: cert, cert-role: ra, wrapped: false}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil || c.Vault.AuthMount != "cert" || c.Vault.Wrapped {
		t.Errorf("by certificate: %+v, %v", c.Vault, err)
	}
	if c, err = ParseConfig([]byte(goodConfig)); err != nil || c.Vault != nil {
		t.Errorf("without the section: %+v, %v", c.Vault, err)
	}
}

// TestRenewal reads windows: what a section leaves out is the default, but for groups.
func TestRenewal(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]byte(goodConfig + "renewal: {before: 60, groups: {NORTH: {after: 10, before: 20}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil || c.Renewal.After != 50 || c.Renewal.Before != 60 || c.Renewal.groups()["NORTH"].Before != 20 {
		t.Errorf("%+v, %v", c.Renewal, err)
	}
}

// TestConfigRefuses has one case for every rule; each text differs from the good one in one place.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	nodetest.RefusesConfig(t, goodConfig, ParseConfig, []nodetest.Changed{
		{"terminals without port", "tenant:", "terminals: localhost\ntenant:", "terminals"},
		{"TLS 1.2 without port", "tenant:", "terminals-tls12: localhost\ntenant:", "terminals-tls12"},
		{"no connections of a source", "tenant:", "connections-per-source: 0\ntenant:", "connections-per-source"},
		{"more of a source than of all", "tenant:", "connections-per-source: 4097\ntenant:", "connections-per-source"},
		{"services without port", "tenant:", "services: localhost\ntenant:", "services"},
		{"publication without port", "tenant:", "publication: localhost\ntenant:", "publication"},
		{"no signer", "tenant:", "signer-certificate: \"\"\ntenant:", "signer-certificate"},
		{"no key of the signer", "tenant:", "signer-key: \"\"\ntenant:", "signer-key"},
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
		{"fingerprints", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin, fingerprints: {}}\ntenant:", "no use for it"},
		{"no issuer", "tenant:", "issuer: \"\"\ntenant:", "issuer"},
		{"no pepper", "tenant:", "pepper: \"\"\ntenant:", "pepper"},
		{"no trust list", "tenant:", "trust-list: \"\"\ntenant:", "trust-list"},
		{"no key-distribution host", "tenant:", "keyd: \"\"\ntenant:", "keyd"},
		{"plain key-distribution host", "tenant:", "keyd: http://localhost:8448\ntenant:", "keyd"},
		{"key-distribution host with a path", "tenant:", "keyd: https://localhost:8448/delivery\ntenant:", "keyd"},
		{"key-distribution host with a name in it", "tenant:", "keyd: https://me@localhost:8448\ntenant:", "keyd"},
		{"postgres without anything", "tenant:", "postgres:\ntenant:", "postgres"},
		{"postgres with a standby that lags", "tenant:", "postgres: {servers: [/run/postgresql], standby: accept-lag}\ntenant:", "standby"},
		{"postgres and a file", "tenant:", "postgres: {servers: [/run/postgresql]}\ndatabase: a.db\ntenant:", "database"},
		{"postgres elsewhere without roots", "tenant:", "postgres: {servers: [db.example]}\ntenant:", "another machine"},
		{"publication by HTTPS", "tenant:", "publication-url: https://pki.example\ntenant:", "publication-url"},
		{"publication with a path", "tenant:", "publication-url: http://pki.example/crl\ntenant:", "publication-url"},
		{"publication nowhere", "tenant:", "publication-url: 'http://:80'\ntenant:", "publication-url"},
		{"answers in the place of Vault's", "tenant:", "vault: {address: 'https://vault.example', chain: a, role-id-file: b, secret-id-file: c}\nocsp: true\ntenant:", "Vault's own"},
		{"no overlap", "tenant:", "overlap: 0s\ntenant:", "overlap"},
		{"overlap out of range", "tenant:", "overlap: 25h\ntenant:", "overlap"},
		{"no certificates", "tenant:", "daily-cap: 0\ntenant:", "daily-cap"},
		{"too many certificates", "tenant:", "daily-cap: 10001\ntenant:", "daily-cap"},
		{"renewal at once", "tenant:", "renewal: {after: 0}\ntenant:", "renewal"},
		{"renewal too late", "tenant:", "renewal: {before: 96}\ntenant:", "renewal"},
		{"renewal backwards", "tenant:", "renewal: {after: 75}\ntenant:", "renewal"},
		{"a group that is none", "tenant:", "renewal: {groups: {north: {after: 20, before: 30}}}\ntenant:", "group"},
		{"half a window of a group", "tenant:", "renewal: {groups: {NORTH: {after: 20}}}\ntenant:", "NORTH"},
		{"an unknown member of renewal", "tenant:", "renewal: {from: 20}\ntenant:", "from"},
		{"no drain", "tenant:", "drain: 0s\ntenant:", "drain"},
		{"drain out of range", "tenant:", "drain: 8785h\ntenant:", "drain"},
		{"Vault without anything", "tenant:", "vault:\ntenant:", "address"},
		{"Vault nowhere", "tenant:", "vault: {mount: pki}\ntenant:", "address"},
		{"Vault in the clear", "tenant:", "vault: {address: 'http://vault.example:8200'}\ntenant:", "in the clear"},
		{"Vault with a path", "tenant:", "vault: {address: 'https://vault.example:8200/v1'}\ntenant:", "address"},
		{"a mount of Vault that is none", "tenant:", "vault: {address: 'https://v:1', mount: a//b}\ntenant:", "mount"},
		{"a role of Vault that is none", "tenant:", "vault: {address: 'https://v:1', role: a/b}\ntenant:", "role"},
		{"no chain of Vault", "tenant:", "vault: {address: 'https://v:1', chain: ''}\ntenant:", "chain"},
		{"an unknown way into Vault", "tenant:", "vault: {address: 'https://v:1', auth: userpass}\ntenant:", "approle, token or cert"},
		{"no secret-id", "tenant:", "vault: {address: 'https://v:1', secret-id-file: ''}\ntenant:", "secret-id-file"},
		{"no token of Vault", "tenant:", "vault: {address: 'https://v:1', auth: token}\ntenant:", "token-file"},
		{"no role of the certificate", "tenant:", "vault: {address: 'https://v:1', auth: cert}\ntenant:", "cert-role"},
		{"a Vault with patience", "tenant:", "vault: {address: 'https://v:1', timeout: 11s}\ntenant:", "timeout"},
		{"nobody asks Vault", "tenant:", "vault: {address: 'https://v:1', concurrent: 0}\ntenant:", "concurrent"},
		{"a token in the configuration", "tenant:", "vault: {address: 'https://v:1', token: abc}\ntenant:", "token"},
		{"Vault and a token both", "tenant:", "vault: {address: 'https://v:1'}\nhsm: {uri: 'pkcs11:token=a?module-path=/m.so', pin-file: pin}\nissuer-key: 'pkcs11:object=a'\ntenant:", "leave out one"},
		{"members that only the program sets", "tenant:", "reload: true\ntenant:", "reload"},
	}...)
}

// FuzzParseConfig holds the reader of the file to refusing or giving what Check can decide on.
func FuzzParseConfig(f *testing.F) {
	nodetest.FuzzConfig(f, goodConfig, ParseConfig, func(c Config) bool {
		return c.Tenant != "" && c.PassphraseFile != "" && c.Pepper != "" && c.Keyd != "" && c.Overlap > 0 && c.Drain > 0
	})
}
