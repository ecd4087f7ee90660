// Command latchkey-decryptd is the host decryption service: it verifies, decrypts and PIN-translates what payment
// terminals send, each content once, and serves acquirer hosts over mutual TLS.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/latchkey-pos/latchkey/cmd/daemon"
	node "github.com/latchkey-pos/latchkey/internal/node/decrypt"
)

func main() { os.Exit(program.Main(os.Args[1:], os.Getenv)) }

var program = daemon.Program[node.Config]{
	Name:  "latchkey-decryptd",
	Short: "The host decryption service",
	Long: `latchkey-decryptd verifies, decrypts and PIN-translates what payment terminals send. A message
is answered once: the same again gets the same answer, anything else under its key serial
number is refused, across restarts and power cuts.

Acquirer hosts call it over mutual TLS 1.3 with a certificate of role acquirer-host:
  POST /transactions             a message as received -> what it holds
  POST /transactions/answer      the host's decision -> the acknowledgement for the terminal
  GET  /terminals/ID/counters    where the counters of a terminal stand
Operators ask the admin address, plain HTTP: /livez, /readyz, /metrics.

The configuration is one YAML file; ` + "`latchkey init`" + ` writes one, decryptd.yaml, that works. Each flag
below replaces the member of the same name; so does a variable, LATCHKEY_ and the name in
capitals, and a flag wins over a variable. Unknown members are errors.

  tenant: ACME                     required: whose terminals and callers are served
  passphrase-file: decrypt.pass    required: opens the sealed files, mode 0600
  callers:                         required: the acquirer hosts that are served
    - name: ACQ-1                  as in its certificate
      pin-keys: [alias/zone-1]     zone keys that PINs may go to for it
      keys:                        keys of fixed value that it may use (docs/aws.md)
        - {key: alias/mac-1, for: [generate-mac, verify-mac]}
  limits:                          how often what may be asked, and how much is worked on at once
    working: 512                   (docs/deployment.md); absent: the defaults
  registry:                        the registration authority that says which terminals there are,
                                   and what of them may be used; absent: the folder says it
    urls: [https://ra:8446]        its addresses for services, tried in turn
    stale-after: 5m                when its silence stops everything; and certificate, key, cache.
                                   --registry URL[,URL] replaces urls
  hsm:                             the PKCS#11 token that keys are used from; absent: the keyring
    uri: pkcs11:token=NAME?module-path=PATH
    pin-file: token.pin            one line, mode 0600; and sessions, cache, fingerprints
  postgres:                        the PostgreSQL that several of these services share, in place of
    servers: [db-1, db-2]          the file named by database: HOST, HOST:PORT or a socket's folder;
    password-file: FILE            and name, user, roots, schema, standby, patience
  listen: 127.0.0.1:8443           and admin, folder, instance, database, certificate, key,
                                   keyring, checkpoint-key, checkpoint-file, checkpoint-every

Signals: TERM and INT end it after the requests under way, HUP reads key sets, terminals and
keys again at once; they are read each second anyway.

When it is ready it writes one line of JSON with its addresses to standard output. Logs are
JSON on standard error and never hold a key, a PIN or a whole card number.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused by policy, 5 unreachable,
6 verification failed.`,
	Example: `  latchkey-decryptd --config pos/decryptd.yaml --check
  latchkey-decryptd --config pos/decryptd.yaml --listen 127.0.0.1:0`,
	Overrides: []daemon.Override[node.Config]{
		{Flag: "listen", Variable: "LATCHKEY_LISTEN", Listens: true, Usage: "address for acquirer hosts, HOST:PORT", Member: func(c *node.Config) *string { return &c.Listen }},
		{Flag: "admin", Variable: "LATCHKEY_ADMIN", Listens: true, Usage: "address for operators, HOST:PORT", Member: func(c *node.Config) *string { return &c.Admin }},
		{Flag: "folder", Variable: "LATCHKEY_FOLDER", Usage: "deployment folder", Member: func(c *node.Config) *string { return &c.Folder }},
		{Flag: "instance", Variable: "LATCHKEY_INSTANCE", Usage: "name of this instance in the audit log", Member: func(c *node.Config) *string { return &c.Instance }},
		{Flag: "database", Variable: "LATCHKEY_DATABASE", Usage: "file of claims, answers and audit log", Member: func(c *node.Config) *string { return &c.Database }},
		{Flag: "passphrase-file", Variable: "LATCHKEY_PASSPHRASE_FILE", Usage: "file with the passphrase of the sealed files", Member: func(c *node.Config) *string { return &c.PassphraseFile }},
	},
	Lists: []daemon.List[node.Config]{
		{Flag: "registry", Variable: "LATCHKEY_REGISTRY", Usage: "https://HOST:PORT of the registration authority's services, several separated by commas; replaces registry: urls", Set: (*node.Config).Follow},
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
		return daemon.ExplainToken(daemon.ExplainDatabase("restore it; an empty one would answer every replay")(err))
	},
}
