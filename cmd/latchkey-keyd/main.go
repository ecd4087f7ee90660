// Command latchkey-keyd is the key-distribution host: it gives out key ids, and derives, wraps and signs the initial keys of
// payment terminals for the registration authority, which alone calls it.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/latchkey-pos/latchkey/cmd/daemon"
	node "github.com/latchkey-pos/latchkey/internal/node/keydist"
)

func main() { os.Exit(program.Main(os.Args[1:], os.Getenv)) }

var program = daemon.Program[node.Config]{
	Name:  "latchkey-keyd",
	Short: "The key-distribution host",
	Long: `latchkey-keyd gives out key ids and delivers initial keys: it derives each from the base key of its
key set, wraps it for one terminal and signs it. A key id is given out once, across restarts and
power cuts. Keys of production sets go only to terminals whose agreement key a maker has certified.

The registration authority calls it over mutual TLS 1.3 with a certificate of role ra:
  POST /agreement     certifies the agreement key of a terminal
  POST /delivery      delivers the next key of a set
  POST /settlement    says that a key was confirmed, or is not used any more
Nobody else does. Operators ask the admin address, plain HTTP: /livez, /readyz, /metrics.

The configuration is one YAML file; ` + "`latchkey init`" + ` writes one, keyd.yaml, that works and explains
every member. Each flag below replaces the member of the same name; so does a variable, LATCHKEY_
and the name in capitals, and a flag wins over a variable. Unknown members are errors.

  tenant: ACME                     required: whose terminals get keys
  environment: test                required: production or test
  passphrase-file: keyd.pass       required: opens the sealed files, mode 0600
  attested: attested               folder of signed documents, for key sets with delivery attested:
                                   makers that are trusted, and their devices that may have keys.
                                   latchkey attested sign makes them; none: no such key is delivered
  first-after: {CARDS: KEYID}      for each key set an id that, with all before it, is never given
                                   out here: set it after a restore
  hsm:                             the PKCS#11 token that initial keys come out of; absent: the keyring
    uri: pkcs11:token=NAME?module-path=PATH
    pin-file: token.pin            one line, mode 0600; and sessions, fingerprints
  issuer-key: pkcs11:object=NAME   signing key in that token; and in signer-key and key, in place of files
  listen: 127.0.0.1:8448           and admin, folder, instance, database, certificate, key,
                                   signer-certificate, signer-key, issuer, keyring,
                                   checkpoint-key, checkpoint-file, checkpoint-every

Signals: TERM and INT end it after the requests under way, HUP reads key sets, keys and makers again
at once; they are read each second anyway. Other members are read at the start.

When it is ready it writes one line of JSON with its addresses to standard output. Logs are
JSON on standard error and never hold a key.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused by policy, 5 unreachable,
6 verification failed.`,
	Example: `  latchkey-keyd --config pos/keyd.yaml --check
  latchkey-keyd --config pos/keyd.yaml`,
	Overrides: []daemon.Override[node.Config]{
		{Flag: "listen", Variable: "LATCHKEY_LISTEN", Listens: true, Usage: "address for the registration authority, HOST:PORT", Member: func(c *node.Config) *string { return &c.Listen }},
		{Flag: "admin", Variable: "LATCHKEY_ADMIN", Listens: true, Usage: "address for operators, HOST:PORT", Member: func(c *node.Config) *string { return &c.Admin }},
		{Flag: "folder", Variable: "LATCHKEY_FOLDER", Usage: "deployment folder", Member: func(c *node.Config) *string { return &c.Folder }},
		{Flag: "instance", Variable: "LATCHKEY_INSTANCE", Usage: "name of this instance in the audit log", Member: func(c *node.Config) *string { return &c.Instance }},
		{Flag: "database", Variable: "LATCHKEY_DATABASE", Usage: "file of key ids and audit log", Member: func(c *node.Config) *string { return &c.Database }},
		{Flag: "passphrase-file", Variable: "LATCHKEY_PASSPHRASE_FILE", Usage: "file with the passphrase of the sealed files", Member: func(c *node.Config) *string { return &c.PassphraseFile }},
	},
	Load: node.LoadConfig,
	Verify: func(c *node.Config, p daemon.Process) error {
		c.Reload = p.Reload
		return c.Check()
	},
	Deployment: func(c node.Config) daemon.Deployment {
		return daemon.Deployment{Folder: c.Folder, Tenant: c.Tenant, Environment: c.Environment}
	},
	Check: node.Check,
	Describe: func(c node.Config) []slog.Attr {
		return []slog.Attr{slog.String("tenant", c.Tenant), slog.String("folder", c.Folder)}
	},
	Run: func(ctx context.Context, c node.Config, log *slog.Logger, ready func(...slog.Attr)) error {
		return node.Run(ctx, c, log, func(a node.Addrs) {
			ready(slog.String("service", a.Service), slog.String("admin", a.Admin), slog.String("instance", c.Instance))
		})
	},
	Explain: func(err error) error {
		return daemon.ExplainToken(daemon.ExplainDatabase("restore it; an empty one would give out every key id again")(err))
	},
}
