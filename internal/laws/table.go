package laws

// TestSupport lists the packages that only tests import; they may import what they test.
var TestSupport = []string{
	"cmd/daemon/daemontest", "decrypt/engine/enginetest", "decrypt/storetest", "internal/ctgrind", "internal/ctgrind/cases", "internal/e2e",
	"internal/audit/audittest", "internal/fipstest", "internal/hsmtest", "internal/laws", "internal/node/nodetest", "internal/openapitest", "internal/pgtest", "internal/residue", "internal/seal/sealtest",
	"internal/store/postgres/postgrestest", "internal/store/sqlite/sqlitetest", "internal/testvec", "internal/vaulttest", "terminal/enginetest", "terminal/sealertest", "terminal/terminaltest", "tls/ca/catest",
	"tls/keydist/keydisttest", "tls/provision/provisiontest",
}

// Imports says for every package which packages of this module it may import. A package without a row, and a row
// without a package, break the law. Change it only with a reason in docs/decisions.
var Imports = map[string][]string{
	"internal/crockford":     {},
	"internal/secret":        {"internal/planted"},
	"internal/planted":       {},
	"internal/des":           {"internal/planted"},
	"internal/des/gen":       {},
	"internal/mac":           {"internal/des", "internal/secret"},
	"internal/padding":       {"internal/secret"},
	"internal/seal":          {"internal/canon", "internal/secret"},
	"internal/seal/sealtest": {"internal/seal"},
	"internal/prompt":        {"internal/exit", "internal/secret"},
	"internal/audit":         {"internal/canon"},
	"internal/canon":         {},
	"internal/exit":          {},
	"internal/harden":        {},
	"internal/limit":         {},
	"internal/supervisor":    {},
	"internal/filelock":      {},
	"internal/serve":         {},
	"internal/strictjson":    {"internal/planted"},
	"internal/fleet":         {"dukpt", "internal/filelock", "internal/seal", "internal/strictjson", "keys/keyset", "tls/provision"},

	"keys":          {"internal/des", "internal/mac", "internal/secret"},
	"keys/keyblock": {"internal/des", "internal/mac", "internal/planted", "internal/secret", "keys"},
	"keys/keyset":   {"dukpt", "internal/canon", "internal/crockford", "keys"},
	"keys/remote": {
		"dukpt", "internal/canon", "internal/planted", "internal/secret", "keys", "keys/keyblock", "keys/keyset", "tls/identity",
	},
	"keys/ceremony": {
		"internal/canon", "internal/crockford", "internal/planted", "internal/secret", "internal/strictjson", "keys", "keys/keyset", "tls/identity",
	},
	"pin":          {"internal/des", "internal/planted", "internal/secret"},
	"dukpt":        {"internal/des", "internal/mac", "internal/padding", "internal/planted", "internal/secret", "keys", "pin"},
	"dukpt/idtech": {},
	"message":      {"dukpt", "internal/canon", "internal/planted", "keys/keyset", "pin"},

	"tls/identity":    {},
	"tls/tlsconf":     {"tls/identity"},
	"tls/ca":          {"tls/identity"},
	"tls/ca/status":   {"internal/planted"},
	"tls/ca/embedded": {"internal/filelock", "internal/seal", "internal/secret", "tls/ca", "tls/ca/status", "tls/identity"},
	"tls/ca/vault":    {"internal/planted", "internal/seal", "internal/secret", "tls/ca", "tls/identity"},

	"tls/trustlist": {"internal/canon", "internal/crockford", "internal/planted", "tls/identity", "tls/tlsconf"},
	"tls/feed": {
		"dukpt", "internal/canon", "internal/crockford", "internal/planted", "internal/strictjson", "keys/keyset", "tls/identity",
		"tls/tlsconf",
	},
	"tls/est": {"internal/planted", "internal/secret", "tls/identity"},
	"tls/enroll": {
		"internal/crockford", "internal/planted", "internal/secret", "keys/remote", "tls/ca", "tls/est", "tls/identity", "tls/tlsconf", "tls/trustlist",
	},
	"tls/provision": {
		"dukpt", "internal/audit", "internal/canon", "internal/crockford", "internal/planted", "internal/secret", "internal/serve",
		"keys/keyset", "keys/remote", "tls/ca", "tls/ca/status", "tls/est", "tls/feed", "tls/identity", "tls/tlsconf",
	},
	"tls/provision/admin": {"dukpt", "internal/secret", "internal/serve", "internal/strictjson", "keys/keyset", "tls/feed", "tls/identity", "tls/provision", "tls/tlsconf"},
	"tls/keydist": {
		"dukpt", "internal/audit", "internal/canon", "internal/planted", "internal/secret", "internal/serve", "keys", "keys/keyset", "keys/remote",
		"tls/ca", "tls/est", "tls/identity", "tls/tlsconf",
	},

	"terminal": {
		"dukpt", "internal/planted", "internal/seal", "internal/secret", "keys", "keys/keyblock", "keys/keyset", "keys/remote",
		"message", "pin", "tls/enroll", "tls/est", "tls/identity", "tls/tlsconf", "tls/trustlist",
	},

	"decrypt/engine": {"dukpt", "keys", "keys/keyset", "pin"},
	"decrypt":        {"decrypt/engine", "dukpt", "internal/audit", "internal/canon", "internal/limit", "internal/planted", "internal/secret", "keys", "keys/keyset", "message", "pin"},
	"decrypt/api":    {"internal/strictjson"},
	"decrypt/aws":    {"decrypt", "dukpt", "internal/secret", "internal/serve", "internal/strictjson", "keys/keyset", "pin"},

	"internal/keyring": {
		"decrypt/engine", "dukpt", "internal/crockford", "internal/des", "internal/filelock", "internal/mac", "internal/planted", "internal/seal", "internal/secret", "keys",
		"keys/keyblock", "keys/keyset", "pin",
	},
	"hsm": {
		"decrypt/engine", "dukpt", "internal/crockford", "internal/des", "internal/mac", "internal/padding", "internal/planted",
		"internal/secret", "keys", "keys/keyset", "pin",
	},
	"internal/store/columns": {"decrypt", "dukpt", "keys"},
	"internal/store/rows":    {"internal/audit"},
	"internal/store/registry": {
		"dukpt", "internal/audit", "internal/store/rows", "keys/keyset", "tls/identity", "tls/provision",
	},
	"internal/store/deliveries": {
		"dukpt", "internal/audit", "internal/canon", "internal/store/rows", "keys/keyset", "tls/keydist",
	},
	"internal/store/postgres/registry":   {"internal/store/postgres", "internal/store/registry"},
	"internal/store/postgres/deliveries": {"internal/store/deliveries", "internal/store/postgres"},
	"internal/store/postgres": {
		"decrypt", "dukpt", "internal/audit", "internal/planted", "internal/store/columns", "internal/store/queue", "internal/store/rows", "keys", "keys/keyset", "message",
	},
	"internal/store/queue":             {},
	"internal/store/sqlite":            {"internal/audit", "internal/planted", "internal/store/queue", "internal/store/rows"},
	"internal/store/sqlite/claims":     {"decrypt", "dukpt", "internal/audit", "internal/store/columns", "internal/store/sqlite", "keys", "keys/keyset", "message"},
	"internal/store/sqlite/deliveries": {"internal/store/deliveries", "internal/store/sqlite"},
	"internal/store/sqlite/registry":   {"internal/store/registry", "internal/store/sqlite"},

	"terminal/faults": {"terminal"},
	"terminal/rogue":  {"dukpt", "internal/secret", "keys", "keys/keyset", "message", "pin", "terminal"},
	"internal/deploy": {
		"decrypt/engine", "dukpt", "internal/audit", "internal/crockford", "internal/keyring", "internal/seal", "internal/secret", "keys",
		"keys/keyset", "terminal", "tls/ca", "tls/ca/embedded", "tls/identity", "tls/keydist", "tls/tlsconf", "tls/trustlist",
	},
	"internal/sample": {"decrypt/engine", "dukpt", "internal/deploy", "internal/keyring", "internal/secret", "keys", "keys/keyset", "terminal"},
	"internal/node/decrypt": {
		"decrypt", "decrypt/api", "decrypt/aws", "decrypt/engine", "dukpt", "internal/audit", "internal/deploy", "internal/keyring", "internal/limit", "internal/node/daemon", "internal/node/token",
		"internal/seal", "internal/secret", "internal/serve", "internal/store/postgres", "internal/store/sqlite/claims", "keys", "keys/keyset", "message", "pin", "tls/feed", "tls/identity",
		"tls/tlsconf",
	},

	"cmd/daemon": {
		"decrypt/engine", "hsm", "internal/deploy", "internal/exit", "internal/harden", "internal/node/token", "internal/planted", "internal/seal",
		"internal/store/postgres", "internal/store/sqlite", "internal/supervisor", "keys/keyset", "tls/ca", "tls/ca/embedded",
	},
	"cmd/latchkey-provisiond": {"cmd/daemon", "internal/node/provision"},
	"internal/node/daemon": {
		"internal/audit", "internal/deploy", "internal/seal", "internal/secret", "internal/serve", "internal/store/postgres", "keys/keyset", "tls/identity",
		"tls/tlsconf",
	},
	"internal/node/token": {
		"decrypt/engine", "hsm", "internal/node/daemon", "internal/seal", "internal/secret", "keys", "keys/keyset", "tls/ca/embedded",
	},
	"internal/node/provision": {
		"internal/deploy", "internal/node/daemon", "internal/node/token", "internal/seal", "internal/secret", "internal/serve",
		"internal/audit", "internal/store/postgres", "internal/store/postgres/registry", "internal/store/sqlite/registry", "keys/keyset", "tls/ca", "tls/ca/embedded", "tls/ca/vault", "tls/identity", "tls/keydist", "tls/provision",
		"tls/provision/admin", "tls/tlsconf",
	},
	"internal/node/keydist": {
		"decrypt/engine", "dukpt", "internal/audit", "internal/deploy", "internal/keyring", "internal/node/daemon", "internal/node/token",
		"internal/seal", "internal/secret", "internal/serve", "internal/audit", "internal/store/postgres", "internal/store/postgres/deliveries", "internal/store/sqlite/deliveries", "keys/keyset", "keys/remote", "tls/ca/embedded", "tls/identity",
		"tls/keydist", "tls/tlsconf",
	},
	"cmd/latchkey-keyd": {"cmd/daemon", "internal/node/keydist"},
	"cmd/latchkey": {
		"internal/node/daemon", "internal/node/keydist", "internal/node/provision", "internal/node/token", "keys/remote", "tls/ca", "tls/ca/embedded",
		"tls/ca/vault", "tls/enroll", "tls/est", "tls/feed", "tls/keydist", "tls/provision", "tls/provision/admin", "tls/trustlist",
		"decrypt", "decrypt/api", "decrypt/engine", "dukpt", "examples/acquirer", "hsm", "internal/audit", "internal/deploy",
		"internal/des", "internal/exit", "internal/filelock", "internal/fleet", "internal/harden", "internal/keyring", "internal/node/decrypt", "internal/planted", "internal/prompt",
		"internal/sample", "internal/seal", "internal/secret", "internal/serve", "internal/store/postgres", "internal/store/sqlite", "keys", "keys/ceremony", "keys/keyblock", "keys/keyset",
		"message", "pin", "terminal", "terminal/rogue", "tls/identity", "tls/tlsconf",
	},
	"cmd/latchkey-decryptd": {"cmd/daemon", "internal/node/decrypt"},
	"cmd/latchkey-terminal": {
		"decrypt/engine", "dukpt", "hsm", "internal/exit", "internal/fleet", "internal/harden", "internal/prompt", "internal/seal", "internal/secret", "keys/keyset", "keys/remote",
		"message", "pin", "terminal", "terminal/faults", "tls/enroll", "tls/tlsconf", "tls/trustlist",
	},
	"cmd/liblatchkey": {
		"dukpt", "internal/planted", "internal/secret", "keys", "keys/keyset", "keys/remote", "message", "pin", "terminal", "tls/enroll", "tls/tlsconf",
		"tls/trustlist",
	},
	"examples/acquirer": {"decrypt/api", "tls/identity", "tls/tlsconf"},
	"examples/acquirer/cmd/acquirer": {
		"decrypt/api", "examples/acquirer", "internal/deploy", "internal/exit", "internal/seal", "keys/keyset", "tls/feed", "tls/identity", "tls/tlsconf",
	},
}

// Confined says which packages alone may import a third-party path or anything below it.
var Confined = map[string][]string{
	"C":                                   {"hsm", "cmd/liblatchkey"},
	"github.com/hashicorp/vault":          {"tls/ca/vault"},
	"go.step.sm/crypto":                   {"tls/ca/embedded"},
	"github.com/smallstep/certificates":   {"tls/ca/embedded"},
	"github.com/smallstep/pkcs7":          {"tls/est"},
	"modernc.org/sqlite":                  {"internal/store/sqlite"},
	"github.com/jackc/pgx":                {"internal/store/postgres"},
	"database/sql":                        {"internal/store/sqlite", "internal/store/postgres"},
	"github.com/pressly/goose":            {"internal/store/sqlite", "internal/store/postgres"},
	"github.com/prometheus/client_golang": {"internal/serve", "internal/node"},
	"github.com/ThalesGroup/crypto11":     {"hsm"},
	"github.com/miekg/pkcs11":             {"hsm"},
	"rsc.io/qr":                           {"cmd/latchkey"},
	"golang.org/x/crypto/argon2":          {"internal/seal"},
	"golang.org/x/crypto/ocsp":            {"tls/ca/status"},
	"golang.org/x/mod/sumdb":              {"internal/audit", "internal/store/sqlite", "internal/store/postgres"},
	"golang.org/x/net/netutil":            {"internal/serve"},
	"github.com/rogpeppe/go-internal":     {},
	"pgregory.net/rapid":                  {"decrypt/storetest", "decrypt/engine/enginetest"},
	"github.com/anishathalye/porcupine":   {"decrypt/storetest"},
	"go.uber.org/goleak":                  {"internal/store/postgres/postgrestest"},
	"github.com/getkin/kin-openapi":       {"internal/openapitest"},
	"github.com/google/go-cmp":            {"decrypt/storetest"},
	"github.com/zmap":                     {"tls/ca/catest"},
	"github.com/spf13/cobra":              {"cmd"},
	"runtime/secret":                      {"internal/secret"},
	"unsafe":                              {"cmd/liblatchkey", "internal/ctgrind", "internal/secret"},
	Module + "/internal/ctgrind":          {"internal/ctgrind"},
	Module + "/internal/planted":          {"internal/des", "internal/secret", "keys", "pin", "dukpt", "message", "decrypt", "hsm", "internal/store", "internal/keyring", "internal/node", "cmd", "internal/e2e", "internal/strictjson", "terminal", "tls"},
}

// Pure lists the packages that import the standard library and this module only.
var Pure = []string{"dukpt", "internal/des", "internal/mac", "internal/padding", "internal/secret", "keys", "keys/keyblock", "pin"}

// Small lists the packages that firmware links: they build without cgo for a 32-bit ARM terminal.
var Small = []string{"dukpt", "keys", "keys/keyblock", "message", "pin", "terminal"}

// ReadsEnvironment lists the packages beside programs that may read the environment.
var ReadsEnvironment = []string{"internal/hsmtest", "internal/pgtest", "internal/planted", "internal/testvec", "internal/vaulttest"}
