// Command latchkey-provisiond is the registration authority: it enrols payment terminals over EST (RFC 7030), passes
// their initial keys on from the key-distribution host, and tells every listener which terminals there are.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/latchkey-pos/latchkey/cmd/daemon"
	node "github.com/latchkey-pos/latchkey/internal/node/provision"
)

func main() { os.Exit(program.Main(os.Args[1:], os.Getenv)) }

var program = daemon.Program[node.Config]{
	Name:  "latchkey-provisiond",
	Short: "The registration authority",
	Long: `latchkey-provisiond brings payment terminals their certificates and keys, and takes them away.

Terminals enrol with a one-time code, over EST (RFC 7030); any EST client can (docs/est.md):
  GET  /.well-known/est/cacerts           POST /.well-known/est/simpleenroll
  GET  /.well-known/est/csrattrs          POST /.well-known/est/simplereenroll
  POST /.well-known/est/agreement/simpleenroll
  GET  /enrolment                         what is set up for the terminal
  POST /keys                              its initial key, from the key-distribution host
Operators and auditors use ` + "`latchkey terminal`" + `, over the services address. Hosts follow the
registry feed there: a terminal that is revoked is cut off everywhere within two seconds.
With terminals-tls12 in the file there is one more address, for EST clients without TLS 1.3.
The publication address, plain HTTP, has what proves itself: /trust-list and /crl/terminals.
Operators ask the admin address, plain HTTP: /livez, /readyz, /metrics.

The configuration is one YAML file; ` + "`latchkey init`" + ` writes one, provisiond.yaml, that works and
explains every member. Each flag below replaces the member of the same name; so does a variable,
LATCHKEY_ and the name in capitals, and a flag wins over a variable. Unknown members are errors.

Signals: TERM and INT end it after the requests under way, HUP reads key sets again at once; they
are read each second anyway. Other members are read at the start.

When it is ready it writes one line of JSON with its addresses to standard output. Logs are
JSON on standard error and never hold a key or a code.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused by policy, 5 unreachable,
6 verification failed.`,
	Example: `  latchkey-provisiond --config pos/provisiond.yaml --check
  latchkey-provisiond --config pos/provisiond.yaml`,
	Overrides: []daemon.Override[node.Config]{
		{Flag: "terminals", Variable: "LATCHKEY_TERMINALS", Listens: true, Usage: "address for terminals, HOST:PORT", Member: func(c *node.Config) *string { return &c.Terminals }},
		{Flag: "terminals-tls12", Variable: "LATCHKEY_TERMINALS_TLS12", Listens: true, Usage: "address for terminals without TLS 1.3, HOST:PORT; none by default", Member: func(c *node.Config) *string { return &c.TLS12 }},
		{Flag: "services", Variable: "LATCHKEY_SERVICES", Listens: true, Usage: "address for operators and services, HOST:PORT", Member: func(c *node.Config) *string { return &c.Services }},
		{Flag: "publication", Variable: "LATCHKEY_PUBLICATION", Listens: true, Usage: "address of the trust list, HOST:PORT", Member: func(c *node.Config) *string { return &c.Publication }},
		{Flag: "admin", Variable: "LATCHKEY_ADMIN", Listens: true, Usage: "address of health and metrics, HOST:PORT", Member: func(c *node.Config) *string { return &c.Admin }},
		{Flag: "folder", Variable: "LATCHKEY_FOLDER", Usage: "deployment folder", Member: func(c *node.Config) *string { return &c.Folder }},
		{Flag: "instance", Variable: "LATCHKEY_INSTANCE", Usage: "name of this instance in the audit log", Member: func(c *node.Config) *string { return &c.Instance }},
		{Flag: "database", Variable: "LATCHKEY_DATABASE", Usage: "file of the registry and the audit log", Member: func(c *node.Config) *string { return &c.Database }},
		{Flag: "keyd", Variable: "LATCHKEY_KEYD", Usage: "URL of the key-distribution host", Member: func(c *node.Config) *string { return &c.Keyd }},
		{Flag: "passphrase-file", Variable: "LATCHKEY_PASSPHRASE_FILE", Usage: "file with the passphrase of the sealed files", Member: func(c *node.Config) *string { return &c.PassphraseFile }},
	},
	Switches: []daemon.Switch[node.Config]{
		{Flag: "new-epoch", Usage: "begin a new epoch of the registry feed: once, after the database was restored", Member: func(c *node.Config) *bool { return &c.NewEpoch }},
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
		on := []slog.Attr{slog.String("tenant", c.Tenant), slog.String("folder", c.Folder), slog.String("terminals", c.Terminals+" TLS 1.3")}
		if c.TLS12 != "" {
			on = append(on, slog.String("terminals-tls12", c.TLS12+" TLS 1.2, certificates only"))
		}
		return on
	},
	Run: func(ctx context.Context, c node.Config, log *slog.Logger, ready func(...slog.Attr)) error {
		return node.Run(ctx, c, log, func(a node.Addrs) {
			lines := []slog.Attr{slog.String("terminals", a.Terminals), slog.String("services", a.Services),
				slog.String("publication", a.Publication), slog.String("admin", a.Admin), slog.String("instance", c.Instance)}
			if a.TLS12 != "" {
				lines = append(lines, slog.String("terminals-tls12", a.TLS12))
			}
			ready(lines...)
		})
	},
	Explain: func(err error) error {
		return daemon.ExplainToken(daemon.ExplainDatabase("restore it: an empty registry would hand out one-time codes and key ids again")(err))
	},
}
