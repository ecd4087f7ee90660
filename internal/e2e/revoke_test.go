package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// cutWithin is how long a revocation may take to reach whoever follows the feed.
const cutWithin = 2 * time.Second

// payments is an authority with a decryption service and an acquirer's host, all of them processes.
type payments struct {
	*authority
	decryptd *service
	acquirer string      // its URL
	host     *api.Client // the decryption service, as the acquirer calls it
}

func newPayments(t *testing.T) *payments {
	t.Helper()
	p := &payments{authority: newAuthority(t)}
	p.start(t, binaries.shipped)
	p.decryptd, p.host = p.startHost(t, "e2e", p.ra.doors["services"])
	p.startAcquirer(t)
	return p
}

// startHost runs a decryption service with a database of its own that follows a registration authority, and returns a client of the acquirer for it.
func (p *payments) startHost(t *testing.T, name, feed string) (*service, *api.Client) {
	t.Helper()
	config := filepath.Join(p.dir, name+".yaml")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `tenant: %s
environment: test
passphrase-file: passphrase
database: %s.db
checkpoint-file: audit/%[2]s.checkpoint
registry:
  urls: ["https://%[3]s"]
  cache: %[2]s.feed
callers:
  - name: ACQ-1
    pin-keys: [%[4]s, %[5]s]
`, tenant, name, feed, sample.ZoneTDES, sample.ZoneAES), 0o600))
	s := newService("latchkey-decryptd", config, "listen", "admin")
	s.start(t, binaries.shipped)
	t.Cleanup(s.end)
	d, err := deploy.Open(p.dir, secret.From([]byte(passphraseText)))
	check(t, err)
	defer d.Close()
	cert, err := d.ServiceCredential(deploy.ServiceAcquirer)
	check(t, err)
	return s, api.NewClient("https://"+s.doors["listen"], p.as(t, cert, identity.Decrypt))
}

// startAcquirer runs the example host as a customer would.
func (p *payments) startAcquirer(t *testing.T, planted ...string) {
	t.Helper()
	binary := binaries.shipped
	if len(planted) > 0 {
		binary = binaries.planted
	}
	out, log := newLines(), newLines()
	cmd := exec.Command(filepath.Join(binary, "acquirer"), "-dir", p.dir, "-passphrase-file", filepath.Join(p.dir, "passphrase"),
		"-listen", "127.0.0.1:0", "-decrypt", "https://"+p.decryptd.doors["listen"], "-ledger", filepath.Join(p.dir, "ledger.jsonl"),
		"-feed", "https://"+p.ra.doors["services"], "-feed-cache", filepath.Join(p.dir, "acquirer.feed"))
	cmd.Env = append(os.Environ(), "LATCHKEY_PLANTED="+strings.Join(planted, ","))
	cmd.Stdout, cmd.Stderr = out, log
	check(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-exited
	})
	deadline := time.After(30 * time.Second)
	for {
		if m := regexp.MustCompile(`listening on (https://\S+)\n`).FindStringSubmatch(out.String()); m != nil {
			p.acquirer = m[1]
			return
		}
		select {
		case <-out.more:
		case err := <-exited:
			exited <- err
			t.Fatalf("the acquirer ended: %v\n%s", err, log)
		case <-deadline:
			t.Fatalf("the acquirer is not ready\n%s", log)
		}
	}
}

// recorder keeps what a terminal sent last.
type recorder struct {
	link *terminal.Link
	sent []byte
}

// Exchange implements terminal.Exchanger.
func (r *recorder) Exchange(ctx context.Context, message []byte, accept func([]byte) error) error {
	r.sent = bytes.Clone(message)
	return r.link.Exchange(ctx, message, accept)
}

// sell enrols a terminal, signs it in and makes a sale. It returns the terminal and the bytes of the sale.
func (p *payments) sell(t *testing.T, id keyset.TerminalID, scheme dukpt.Scheme) (*terminal.Terminal, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := p.admin().Do(ctx, admin.Operation{
		Action: "register", Terminal: string(id), Endpoints: []string{p.acquirer},
		Slots: []admin.SlotAssignment{{Slot: sample.DataSlot, KeySet: string(sample.KeySet(scheme, sample.DataSlot))}},
	})
	check(t, err)
	ticket, err := enroll.ParseTicket([]byte(p.ticket(t, admin.Operation{Terminal: string(id)})))
	check(t, err)
	medium := terminal.OSFS(t.TempDir())
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Enroll(ctx, medium, sealer, terminal.EnrolOptions{
		URL: "https://" + p.ra.doors["terminals"], TrustURL: "http://" + p.ra.doors["publication"], Tenant: tenant, Terminal: id, Ticket: ticket,
	}))
	r := &recorder{}
	box, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: r})
	check(t, err)
	t.Cleanup(func() { _ = box.Close() }) // everything is written
	r.link, err = terminal.NewLink(terminal.LinkOptions{
		Endpoints: box.Status().Endpoints, Credential: box.Credential(), Roots: p.trust.Services,
	})
	check(t, err)
	t.Cleanup(r.link.Close)
	in, err := box.SignIn(ctx)
	check(t, err)
	if in.Result != message.SignedIn {
		t.Fatalf("%s is told %v", id, in.Result)
	}
	sale, err := box.Sale(ctx, terminal.SaleRequest{
		Amount: message.Amount{Minor: 100, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		Track:  secret.From([]byte(";4111111111111111=30121010000000000000?")),
	})
	check(t, err)
	if !sale.Approved() {
		t.Fatalf("the sale of %s is %v", id, sale.Result)
	}
	return box, r.sent
}

// showing is how a terminal comes to the acquirer: with its certificate, and with the sessions it had before.
func (p *payments) showing(t *testing.T, box *terminal.Terminal) *tls.Config {
	t.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: box.Credential(), Trust: p.trust, ServerRole: identity.AcquirerHost, ServerName: "127.0.0.1", Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	return config
}

// knock makes a connection to the acquirer and one request on it.
func (p *payments) knock(config *tls.Config) (*tls.Conn, error) {
	return p.knockAt(config, p.acquirer[len("https://"):])
}

// knockAt makes a connection to a listener of terminals and one request on it.
func (p *payments) knockAt(config *tls.Config, addr string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cutWithin)
	defer cancel()
	raw, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := raw.(*tls.Conn)
	if err := p.request(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// request makes a request on a connection to the acquirer.
func (p *payments) request(conn *tls.Conn) error {
	req, err := http.NewRequest(http.MethodGet, p.acquirer+"/messages", nil)
	if err == nil {
		err = errors.Join(conn.SetDeadline(time.Now().Add(cutWithin)), req.Write(conn))
	}
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body) // what is left of it would be the next answer
	return errors.Join(err, resp.Body.Close(), conn.SetDeadline(time.Time{}))
}

// bystander is a terminal that nobody revokes: what is closed to the others is open to it.
type bystander struct {
	p      *payments
	config *tls.Config
	open   *tls.Conn
	sale   []byte
}

func (p *payments) newBystander(t *testing.T) *bystander {
	t.Helper()
	box, sale := p.sell(t, "T-STAYS", dukpt.AES)
	b := &bystander{p: p, config: p.showing(t, box), sale: sale}
	var err error
	b.open, err = p.knock(b.config)
	check(t, err)
	t.Cleanup(func() { _ = b.open.Close() })
	return b
}

// served reports by what door the bystander does not come in.
func (b *bystander) served(t *testing.T) error {
	t.Helper()
	if err := b.p.request(b.open); err != nil {
		return fmt.Errorf("its open connection: %w", err)
	}
	again, err := b.p.knock(b.config)
	if err != nil {
		return fmt.Errorf("its resumed handshake: %w", err)
	}
	if !again.ConnectionState().DidResume {
		return errors.New("its session is not resumed")
	}
	fresh := b.config.Clone()
	fresh.ClientSessionCache = nil
	once, err := b.p.knock(fresh)
	if err != nil {
		return fmt.Errorf("its new handshake: %w", errors.Join(err, again.Close()))
	}
	_, err = b.p.host.Transaction(t.Context(), api.TransactionRequest{Message: b.sale})
	return errors.Join(err, again.Close(), once.Close())
}

// until polls until refused returns true, and returns how long that took since begin.
func until(t *testing.T, begin time.Time, what string, refused func() bool) time.Duration {
	t.Helper()
	for !refused() {
		if time.Since(begin) > cutWithin {
			t.Errorf("%s: not after %v", what, time.Since(begin))
			break
		}
		time.Sleep(2 * time.Millisecond) // polling with a deadline
	}
	return time.Since(begin)
}

// TestRevokeToCut revokes terminals, one way or another, while each has a connection open to the acquirer, and measures when
// every door is closed: the open connection, a resumed and a new handshake, and its KSNs at the host.
func TestRevokeToCut(t *testing.T) {
	f := chosen()
	p := newPayments(t)
	took := make(map[string][]time.Duration)
	stays := p.newBystander(t)
	for i := range f.revocations {
		id := keyset.TerminalID(fmt.Sprintf("T-%04d", i))
		scheme := []dukpt.Scheme{dukpt.AES, dukpt.TDES}[i%2]
		box, sale := p.sell(t, id, scheme)
		config := p.showing(t, box)
		open, err := p.knock(config)
		check(t, err)
		again, err := p.knock(config)
		check(t, err)
		if !again.ConnectionState().DidResume {
			t.Fatal("the acquirer resumes no session, so nothing would be shown")
		}
		check(t, again.Close())
		if tx, err := p.host.Transaction(t.Context(), api.TransactionRequest{Message: sale}); err != nil || tx.CounterStatus != api.Resend {
			t.Fatalf("before the revocation: %v, %v", tx, err)
		}
		ended := make(chan time.Time, 1)
		go func() {
			_, _ = open.Read(make([]byte, 1)) // nothing comes: it returns when the connection ends
			ended <- time.Now()
		}()

		begin := time.Now()
		_, err = p.admin().Do(t.Context(), admin.Operation{
			Action: []string{"revoke", "compromised", "retire"}[i%3], Terminal: string(id), Reason: "test",
		})
		check(t, err)
		select {
		case at := <-ended:
			took["open connection"] = append(took["open connection"], at.Sub(begin))
		case <-time.After(cutWithin):
			t.Errorf("%s: the open connection is open after %v", id, cutWithin)
		}
		took["resumed handshake"] = append(took["resumed handshake"], until(t, begin, "resumed handshake", func() bool {
			_, err := p.knock(config)
			return err != nil
		}))
		fresh := config.Clone()
		fresh.ClientSessionCache = nil
		took["new handshake"] = append(took["new handshake"], until(t, begin, "new handshake", func() bool {
			_, err := p.knock(fresh)
			return err != nil
		}))
		took["KSNs at the host"] = append(took["KSNs at the host"], until(t, begin, "KSNs at the host", func() bool {
			_, err := p.host.Transaction(t.Context(), api.TransactionRequest{Message: sale})
			refusal, ok := errors.AsType[*api.Error](err)
			return ok && refusal.Code == "TerminalRevoked"
		}))
		check(t, open.Close())
		if err := stays.served(t); err != nil {
			t.Errorf("after the revocation of %s a terminal that nobody revoked is shut out too: %v", id, err)
		}
	}
	for _, door := range []string{"open connection", "resumed handshake", "new handshake", "KSNs at the host"} {
		times := slices.Sorted(slices.Values(took[door]))
		if len(times) < f.revocations {
			t.Fatalf("%s: %d of %d measured", door, len(times), f.revocations)
		}
		t.Logf("%s: closed after %v in the median, %v at most, of %d", door, times[len(times)/2].Round(time.Millisecond),
			times[len(times)-1].Round(time.Millisecond), len(times))
		if times[len(times)-1] > cutWithin {
			t.Errorf("%s: %v, want at most %v", door, times[len(times)-1], cutWithin)
		}
	}
	p.decryptd.stop(t)
	p.ra.stop(t)
	p.keyd.stop(t)
}
