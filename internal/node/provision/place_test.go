package provision

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/keydist"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Making a deployment seals many keys; the tests share one folder and have databases of their own.
var (
	scratch string
	shared  = sync.OnceValues(build)
)

func TestMain(m *testing.M) { os.Exit(nodetest.Main(withTokens{m}, &scratch)) }

// place is a deployment with key sets for card data and PINs, and with who may call.
type place struct {
	dir      string
	trust    tlsconf.Trust
	operator tls.Certificate
	decrypt  tls.Certificate
	acquirer tls.Certificate
}

func build() (p *place, err error) {
	p = &place{dir: filepath.Join(scratch, "pos")}
	d, err := deploy.Create(p.dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase})
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }() // everything is written
	if err := sample.Prepare(d, keyset.Code); err != nil {
		return nil, err
	}
	op, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return nil, err
	}
	p.operator = op.TLS()
	if p.trust, err = d.Trust(); err != nil {
		return nil, err
	}
	if p.decrypt, err = d.ServiceCredential(deploy.ServiceDecrypt); err != nil {
		return nil, err
	}
	p.acquirer, err = d.ServiceCredential(deploy.ServiceAcquirer)
	return p, err
}

func must[T any](tb testing.TB) func(T, error) T { return nodetest.Must[T](tb) }

// testConfig is a configuration over the shared folder with a database of its own. No key-distribution host is there yet.
func testConfig(tb testing.TB) (*place, Config) {
	tb.Helper()
	p := must[*place](tb)(shared())
	own := tb.TempDir()
	c := DefaultConfig()
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = p.dir, "ACME", "test", nodetest.PassphraseFile(tb)
	c.Terminals, c.Services, c.Publication, c.Admin = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Database, c.CheckpointFile = filepath.Join(own, "provisiond.db"), filepath.Join(own, "checkpoint")
	return p, c
}

// running is a registration authority with a key-distribution host beside it, both on free ports.
type running struct {
	tb     testing.TB
	place  *place
	config Config
	keyd   keydist.Config
	ra     *nodetest.Running[Addrs]
	host   *nodetest.Running[keydist.Addrs]
}

// start runs both until the end of the test.
func start(tb testing.TB) *running {
	tb.Helper()
	r := &running{tb: tb, keyd: keydist.DefaultConfig()}
	r.place, r.config = testConfig(tb)
	own := filepath.Dir(r.config.Database)
	k := &r.keyd
	k.Folder, k.Tenant, k.Environment, k.PassphraseFile = r.place.dir, "ACME", "test", r.config.PassphraseFile
	k.Listen, k.Admin = "127.0.0.1:0", "127.0.0.1:0"
	k.Database, k.CheckpointFile = filepath.Join(own, "keyd.db"), filepath.Join(own, "keyd.checkpoint")
	r.host = nodetest.Start(tb, func(ctx context.Context, log *slog.Logger, ready func(keydist.Addrs)) error {
		return keydist.Run(ctx, *k, log, ready)
	})
	r.config.Keyd = "https://" + r.host.Addrs.Service
	r.again()
	return r
}

// again runs the authority, after it was stopped.
func (r *running) again() {
	r.tb.Helper()
	r.ra = nodetest.Start(r.tb, func(ctx context.Context, log *slog.Logger, ready func(Addrs)) error {
		return Run(ctx, r.config, log, ready)
	})
}

// operator is the client of a person.
func (r *running) operator() *admin.Client {
	r.tb.Helper()
	return admin.NewClient("https://"+r.ra.Addrs.Services, nodetest.Client(r.tb, r.place.operator, r.place.trust, identity.RA))
}

// ticket registers a terminal, if it is not, and returns what its slip of paper says.
func (r *running) ticket(id string, register bool) string {
	r.tb.Helper()
	if register {
		must[*admin.Outcome](r.tb)(r.operator().Do(r.tb.Context(), admin.Operation{
			Action: "register", Terminal: id, Endpoints: []string{"https://localhost:8444"}, Slots: []admin.SlotAssignment{
				{Slot: sample.DataSlot, KeySet: string(sample.KeySet(dukpt.TDES, sample.DataSlot))},
				{Slot: sample.PINSlot, KeySet: string(sample.KeySet(dukpt.TDES, sample.PINSlot))},
			},
		}))
	}
	return must[*admin.Outcome](r.tb)(r.operator().Do(r.tb.Context(), admin.Operation{Action: "code", Terminal: id})).Ticket
}

// enrol makes a terminal in a folder. While the key-distribution host is too slow for the authority it goes on asking, as a
// terminal does.
func (r *running) enrol(dir, id, ticket string) error {
	r.tb.Helper()
	return r.enrolBy(dir, id, ticket, nil)
}

// enrolBy is enrol by another clock than that of the machine.
func (r *running) enrolBy(dir, id, ticket string, clock func() time.Time) error {
	r.tb.Helper()
	medium := terminal.OSFS(dir)
	sealer, err := terminal.OpenInsecureFile(medium)
	if errors.Is(err, fs.ErrNotExist) {
		sealer, err = terminal.CreateInsecureFile(medium)
	}
	if err != nil {
		return err
	}
	o := terminal.EnrolOptions{
		URL: "https://" + r.ra.Addrs.Terminals, TrustURL: "http://" + r.ra.Addrs.Publication, Tenant: "ACME", Terminal: keyset.TerminalID(id),
		Clock: clock,
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		o.Ticket = must[enroll.Ticket](r.tb)(enroll.ParseTicket([]byte(ticket))) // Enroll wipes it
		err := terminal.Enroll(r.tb.Context(), medium, sealer, o)
		if refusal, ok := errors.AsType[*enroll.Refusal](err); !ok || refusal.Code != "KeyDistributionUnavailable" || time.Now().After(deadline) {
			return err
		}
	}
}

// confirm tells the registry that the keys of a terminal have been used, as the decryption service does, and returns their ids.
func (r *running) confirm(dir, id string) (ids []string) {
	r.tb.Helper()
	medium := terminal.OSFS(dir)
	status := must[terminal.Status](r.tb)(terminal.Inspect(terminal.Options{FS: medium, Sealer: must[terminal.Sealer](r.tb)(terminal.OpenInsecureFile(medium))}))
	var seen feed.Observations
	for _, s := range status.Slots {
		seen.Confirmed = append(seen.Confirmed, feed.Confirmation{Terminal: keyset.TerminalID(id), Slot: s.Slot.Number, KeySet: s.Slot.KeySet, KeyID: s.Slot.KeyID})
		ids = append(ids, s.Slot.KeyID.String())
	}
	client := feed.Client{URLs: []string{"https://" + r.ra.Addrs.Services}, HTTP: nodetest.Client(r.tb, r.place.decrypt, r.place.trust, identity.RA)}
	if _, _, err := client.Observe(r.tb.Context(), seen); err != nil {
		r.tb.Fatal(err)
	}
	return ids
}

// refused wants a refusal of the authority with a code.
func refused(tb testing.TB, err error, want string) {
	tb.Helper()
	if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.Code != want {
		tb.Errorf("got %v, want %s", err, want)
	}
}
