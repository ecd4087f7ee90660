package decrypt

import (
	"reflect"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/node/token"
)

const tokenURI = "'pkcs11:token=acquirer?module-path=/m.so'"

// TestTokenDefaults reads a section that says what it must, and one that says everything.
func TestTokenDefaults(t *testing.T) {
	t.Parallel()
	const one, two = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	for text, want := range map[string]token.Config{
		"hsm: {uri: " + tokenURI + ", pin-file: pin}": {
			URI: "pkcs11:token=acquirer?module-path=/m.so", PINFile: "pin", Sessions: 4, Cache: 4096,
		},
		"hsm: {uri: " + tokenURI + ", pin-file: pin, sessions: 1, cache: -1, fingerprints: {'" + one + "': '" + two + "'}}": {
			URI: "pkcs11:token=acquirer?module-path=/m.so", PINFile: "pin", Sessions: 1, Cache: -1, Fingerprints: map[string]string{one: two},
		},
		"hsm: {uri: " + tokenURI + ", pin-file: pin, sessions: 64, cache: 1048576}": {
			URI: "pkcs11:token=acquirer?module-path=/m.so", PINFile: "pin", Sessions: 64, Cache: 1 << 20,
		},
		"hsm: {uri: " + tokenURI + ", pin-file: pin, carry-pins: true}": {
			URI: "pkcs11:token=acquirer?module-path=/m.so", PINFile: "pin", Sessions: 4, Cache: 4096, CarryPINs: true,
		},
		"hsm: {uri: " + tokenURI + ", pin-file: pin, cache: 1}": {
			URI: "pkcs11:token=acquirer?module-path=/m.so", PINFile: "pin", Sessions: 4, Cache: 1,
		},
	} {
		c := must[Config](t)(ParseConfig([]byte(goodConfig + text)))
		if err := c.Check(); err != nil || c.HSM == nil || !reflect.DeepEqual(*c.HSM, want) {
			t.Errorf("%s: %v, %+v, want %+v", text, err, c.HSM, want)
		}
	}
	if c := must[Config](t)(ParseConfig([]byte(goodConfig))); c.HSM != nil {
		t.Errorf("a file that says nothing uses %+v", c.HSM)
	}
}

// TestTokenConfigRefuses has one case for every rule of the section.
func TestTokenConfigRefuses(t *testing.T) {
	t.Parallel()
	const one = "00112233445566778899aabbccddeeff"
	zeros := strings.Repeat("0", 31)
	section := func(members string) string {
		return "hsm: {uri: " + tokenURI + ", pin-file: pin, " + members + "}\ntenant:"
	}
	nodetest.RefusesConfig(t, goodConfig, ParseConfig, []nodetest.Changed{
		{"token without anything", "tenant:", "hsm:\ntenant:", "uri"},
		{"token as a text", "tenant:", "hsm: " + tokenURI + "\ntenant:", "token.Config"},
		{"token without a URI", "tenant:", "hsm: {pin-file: pin}\ntenant:", "uri"},
		{"token that is no URI", "tenant:", "hsm: {uri: acquirer, pin-file: pin}\ntenant:", "uri"},
		{"token without a module", "tenant:", "hsm: {uri: 'pkcs11:token=acquirer', pin-file: pin}\ntenant:", "module-path"},
		{"PIN in the URI", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so&pin-value=1234', pin-file: pin}\ntenant:", "a PIN stands in the URI"},
		{"place of the PIN in the URI", "tenant:", "hsm: {uri: 'pkcs11:token=a?module-path=/m.so&pin-source=pin', pin-file: pin}\ntenant:", "pin-source"},
		{"no PIN file", "tenant:", "hsm: {uri: " + tokenURI + "}\ntenant:", "pin-file"},
		{"unknown member of the token", "tenant:", section("pin: 1234"), "pin"},
		{"listener in no token", "tenant:", "key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"listener in another token", "tenant:", "key: 'pkcs11:token=a;object=b'\n" + section("sessions: 1"), "key: want pkcs11:object=NAME"},
		{"checkpoints in no token", "tenant:", "checkpoint-key: pkcs11:object=a\ntenant:", "no section hsm"},
		{"checkpoints in another token", "tenant:", "checkpoint-key: 'pkcs11:token=a;object=b'\n" + section("sessions: 1"), "checkpoint-key: want pkcs11:object=NAME"},
		{"follower in no token", "tenant:", "registry: {urls: ['https://ra:1'], key: 'pkcs11:object=a'}\ntenant:", "registry: key"},
		{"no sessions", "tenant:", section("sessions: 0"), "sessions"},
		{"too many sessions", "tenant:", section("sessions: 65"), "sessions"},
		{"cache of nothing", "tenant:", section("cache: 0"), "cache"},
		{"cache below nothing", "tenant:", section("cache: -2"), "cache"},
		{"cache of too much", "tenant:", section("cache: 1048577"), "cache"},
		{"PINs carried perhaps", "tenant:", section("carry-pins: maybe"), "bool"},
		{"short fingerprint", "tenant:", section("fingerprints: {'" + zeros + "': '" + one + "'}"), "fingerprints"},
		{"fingerprint of nothing", "tenant:", section("fingerprints: {'" + one + "': ''}"), "fingerprints"},
		{"two keys of one name", "tenant:", section("fingerprints: {'" + zeros + "1': '" + one + "', '" + zeros + "2': '" + one + "'}"), "named twice"},
	}...)
}
