package provision

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// TestATerminalComesIn goes from a slip of paper to active keys over real connections, and takes the terminal out again.
func TestATerminalComesIn(t *testing.T) {
	t.Parallel()
	r := start(t)
	ctx, op, dir := t.Context(), r.operator(), t.TempDir()
	if err := r.enrol(dir, "T-1", r.ticket("T-1", true)); err != nil {
		t.Fatal(err)
	}
	ids := r.confirm(dir, "T-1")
	row := must[*admin.Terminal](t)(op.Terminal(ctx, "T-1"))
	var active []string
	for _, s := range row.Slots {
		for _, k := range s.Keys {
			if k.State == "active" {
				active = append(active, k.KeyID)
			}
		}
	}
	if row.Status != "active" || len(ids) != 2 || !slices.Equal(active, ids) {
		t.Errorf("the registry has %s with %v, the terminal has %v", row.Status, active, ids)
	}
	must[*admin.Outcome](t)(op.Do(ctx, admin.Operation{Action: "revoke", Terminal: "T-1", Reason: "stolen"}))
	for _, c := range must[[]admin.Certificate](t)(op.Certificates(ctx)) {
		if c.Role == "terminal" && c.State != "revoked" {
			t.Errorf("certificate %s of role %s is %s", c.Serial, c.Role, c.State)
		}
	}
	if status, list := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+"/trust-list"); status != 200 || list != string(must[[]byte](t)(os.ReadFile(filepath.Join(r.place.dir, "trust/list.signed")))) {
		t.Errorf("trust list: %d, %d bytes", status, len(list))
	}
	if status, _ := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+"/crl/terminals"); status != 200 {
		t.Errorf("revocation list: %d", status)
	}
	if status, body := nodetest.Get(t, "http://"+r.ra.Addrs.Admin+"/readyz"); status != 200 || body != `{"catalog":"ok","certificate":"ok","issuer":"ok","signer":"ok","store":"ok"}` {
		t.Errorf("readiness %d %s", status, body)
	}
	_, metrics := nodetest.Get(t, "http://"+r.ra.Addrs.Admin+"/metrics")
	for _, want := range []string{
		`latchkey_http_requests_total{route="POST /.well-known/est/simpleenroll",status="200"} 1`,
		`latchkey_http_requests_total{route="POST /keys",status="200"} 2`, `latchkey_audit_checkpoints_total{result="ok"} 1`,
		`latchkey_enrolments_total{action="enrol",result="ok"} 1`, `latchkey_enrolments_total{action="deliver",result="ok"} 2`,
		`latchkey_enrolments_total{action="agreement",result="ok"} 1`,
		`latchkey_terminals{status="revoked"} 1`, `latchkey_terminals{status="active"} 0`,
		`latchkey_certificates{role="terminal",state="revoked"} 1`, `latchkey_certificates{role="agreement",state="revoked"} 1`,
		`latchkey_certificates{role="terminal",state="current"} 0`, `latchkey_certificates_ending{within="2160h0m0s"} 0`,
		`latchkey_outbox_tasks{kind="orphans"} 0`, `latchkey_outbox_tasks{kind="withdraw"} 0`, `latchkey_outbox_tasks{kind="campaign"} 0`, `latchkey_outbox_oldest_seconds `, `latchkey_store_behind_seconds 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestWhoIsServed lets people and services in at one door, and only terminals at the other.
func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	r := start(t)
	host := admin.NewClient("https://"+r.ra.Addrs.Services, nodetest.Client(t, r.place.acquirer, r.place.trust, identity.RA))
	if _, err := host.Terminals(t.Context()); !isCode(err, "RoleNotPermitted") {
		t.Errorf("an acquirer host asks for terminals: %v", err)
	}
	person := nodetest.Client(t, r.place.operator, r.place.trust, identity.RA)
	if res, err := person.Get("https://" + r.ra.Addrs.Terminals + "/trust-list"); err == nil {
		t.Errorf("an operator at the door of terminals: status %d, %v", res.StatusCode, res.Body.Close())
	}
	must[[]admin.Terminal](t)(r.operator().Terminals(t.Context()))
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*admin.Error](err)
	return ok && e.Code == code
}

// TestTheRegistryOutlivesTheProcess restarts the authority, starts a second one beside it, and takes its database away.
func TestTheRegistryOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	r := start(t)
	ticket, quiet := r.ticket("T-1", true), slog.New(slog.DiscardHandler)
	if err := Check(t.Context(), r.config, quiet); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	r.again()
	dir := t.TempDir()
	if err := r.enrol(dir, "T-1", ticket); err != nil {
		t.Errorf("with the code from before: %v", err)
	}
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range must[[]string](t)(filepath.Glob(r.config.Database + "*")) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(t.Context(), r.config, quiet); !errors.Is(err, sqlite.ErrMissing) {
		t.Errorf("without its database: %v", err)
	}
	if err := os.WriteFile(r.config.Database, []byte(strings.Repeat("no database at all. ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), r.config, quiet); !errors.Is(err, sqlite.ErrDamaged) {
		t.Errorf("with another file in its place: %v", err)
	}
}

// TestStartingRefuses wants the reason in the error, and its kind where there is one.
func TestStartingRefuses(t *testing.T) {
	t.Parallel()
	nodetest.RefusesStart(t, func(tb testing.TB) Config { _, c := testConfig(tb); return c }, Check, []nodetest.Attempt[Config]{
		{"no passphrase file", func(_ *testing.T, c *Config) { c.PassphraseFile += "x" }, fs.ErrNotExist, "passphrase-file"},
		{"another passphrase", func(t *testing.T, c *Config) {
			if err := os.WriteFile(c.PassphraseFile, []byte("another passphrase altogether"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, seal.ErrPassphrase, "certificate"},
		{"no deployment", func(t *testing.T, c *Config) { c.Folder = t.TempDir() }, fs.ErrNotExist, "certificate"},
		{"the key of another certificate", func(_ *testing.T, c *Config) { c.Key = "services/decrypt/key.sealed" }, nil, "certificate"},
		{"the certificate of another role", func(_ *testing.T, c *Config) {
			c.Certificate, c.Key = "services/acquirer/cert.pem", "services/acquirer/key.sealed"
		}, nil, "role ra"},
		{"a signer of another role", func(_ *testing.T, c *Config) {
			c.SignerCertificate, c.SignerKey = "services/decrypt/cert.pem", "services/decrypt/key.sealed"
		}, nil, "signs nothing"},
		{"the issuer of agreement keys", func(_ *testing.T, c *Config) { c.Issuer = "ca/keydist" }, nil, "issuer"},
		{"no pepper", func(_ *testing.T, c *Config) { c.Pepper += "x" }, fs.ErrNotExist, "pepper"},
		{"a pepper that is something else", func(_ *testing.T, c *Config) { c.Pepper = "services/ra/key.sealed" }, nil, "pepper"},
		{"no trust list", func(_ *testing.T, c *Config) { c.TrustList = "trust/none.signed" }, fs.ErrNotExist, "trust-list"},
		{"key sets of another environment", func(_ *testing.T, c *Config) { c.Environment = "production" }, nil, "catalog"},
		{"another tenant", func(_ *testing.T, c *Config) { c.Tenant = "OTHER" }, nil, "OTHER"},
	}...)
}

// TestCertificatesEnd is not ready when a certificate is over, and says which.
func TestCertificatesEnd(t *testing.T) {
	t.Parallel()
	_, c := testConfig(t)
	n := must[*node](t)(open(t.Context(), c, slog.New(slog.DiscardHandler)))
	defer func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	}()
	later := func() time.Time { return time.Now().AddDate(20, 0, 0) }
	for name, l := range map[string]*daemon.Lifetime{"certificate": n.own, "signer": n.signer} {
		before, ready := n.readiness.Ready(t.Context())
		if !ready || before[name] != "ok" {
			t.Errorf("%s: %v", name, before)
		}
		l.Clock = later
		after, ready := n.readiness.Ready(t.Context())
		before[name] = "failed"
		if ready || !maps.Equal(after, before) {
			t.Errorf("%s is over: %v, want %v", name, after, before)
		}
		l.Clock = nil
	}
}

// TestTheWrittenConfigurationWorks starts from the file that latchkey init leaves.
func TestTheWrittenConfigurationWorks(t *testing.T) {
	t.Parallel()
	p := must[*place](t)(shared())
	got := must[Config](t)(LoadConfig(filepath.Join(p.dir, deploy.ProvisiondFile)))
	if err := got.Check(); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Folder, want.Tenant, want.Environment, want.PassphraseFile = p.dir, "ACME", "test", "passphrase"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("configuration %+v\nwant %+v", got, want)
	}
}

// TestNoSecretIsLeftBehind enrols with the right code, with a wrong one and with one that is spent, and looks for the codes in
// everything that stays: both logs, errors, metrics, and every file of the deployment, of the databases and of the terminal.
func TestNoSecretIsLeftBehind(t *testing.T) {
	t.Parallel()
	r := start(t)
	var left bytes.Buffer
	dir := t.TempDir()
	right, wrong := r.ticket("T-1", true), r.ticket("T-2", true)
	spent := must[enroll.Ticket](t)(enroll.ParseTicket([]byte(right)))
	other := must[enroll.Ticket](t)(enroll.ParseTicket([]byte(wrong)))
	secrets := map[string][]byte{
		"ticket": []byte(right), "ticket of another terminal": []byte(wrong),
		"code": bytes.Clone(spent.Code.Expose()), "code of another terminal": bytes.Clone(other.Code.Expose()),
		"passphrase": nodetest.Passphrase.Expose(),
		"pepper":     must[secret.Bytes](t)(deploy.OpenPepper(filepath.Join(r.place.dir, r.config.Pepper), nodetest.Passphrase)).Expose(),
	}
	err := r.enrol(t.TempDir(), "T-1", wrong)
	refused(t, err, "CredentialsRefused")
	left.WriteString(err.Error())
	if err := r.enrol(dir, "T-1", right); err != nil {
		t.Fatal(err)
	}
	err = r.enrol(t.TempDir(), "T-1", right)
	refused(t, err, "CodeSpent")
	left.WriteString(err.Error())
	r.confirm(dir, "T-1")
	for _, path := range []string{"/metrics", "/readyz", "/livez"} {
		for _, address := range []string{r.ra.Addrs.Admin, r.host.Addrs.Admin} {
			_, text := nodetest.Get(t, "http://"+address+path)
			left.WriteString(text)
		}
	}
	if err := errors.Join(r.ra.Stop(), r.host.Stop()); err != nil {
		t.Fatal(err)
	}
	left.WriteString(r.ra.Log.String() + r.host.Log.String())
	for _, folder := range []string{r.place.dir, filepath.Dir(r.config.Database), dir} {
		left.Write(nodetest.Folder(t, folder))
	}
	nodetest.NoneOf(t, left.Bytes(), secrets, "CodeSpent", "POST /.well-known/est/simpleenroll", "FFFF9876543000000000", "checkpoint-key:")
}
