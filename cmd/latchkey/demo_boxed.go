package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// boxed is a terminal fresh from the box: a name, an empty folder, and a slip of paper.
type boxed struct {
	name   keyset.TerminalID
	scheme dukpt.Scheme
	folder string
	slip   string // the ticket. Demonstrations print it; a spent code is worth nothing
}

// boxedTerminals registers the terminals and writes the slips of paper.
func (s *story) boxedTerminals(ctx context.Context) error {
	rows := [][]string{{"TERMINAL", "SLOTS", "STATUS", "SLIP OF PAPER: CODE-PIN"}}
	for _, b := range []*boxed{
		{name: "T-TDES", scheme: dukpt.TDES}, {name: "T-AES", scheme: dukpt.AES}, {name: "T-SPARE", scheme: dukpt.AES},
	} {
		b.folder = filepath.Join(s.root, string(b.name))
		row, err := s.box(ctx, b)
		if err != nil {
			return err
		}
		s.boxes = append(s.boxes, b)
		rows = append(rows, row)
	}
	s.out.table(rows...)
	s.out.line("no terminal has a certificate or a key; whoever has a slip has fifteen minutes")
	return nil
}

func (s *story) box(ctx context.Context, b *boxed) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	data, pins := sample.KeySet(b.scheme, sample.DataSlot), sample.KeySet(b.scheme, sample.PINSlot)
	out, err := s.admin.Do(ctx, admin.Operation{
		Action: "register", Terminal: string(b.name), Endpoints: []string{s.url},
		Slots: []admin.SlotAssignment{{Slot: sample.DataSlot, KeySet: string(data)}, {Slot: sample.PINSlot, KeySet: string(pins)}},
	})
	if err != nil {
		return nil, err
	}
	if out.Terminal == nil || out.Terminal.Status != keyset.StatusPending.String() || out.Terminal.Serial != "" {
		return nil, fmt.Errorf("%s is registered as %+v, want pending and without a certificate", b.name, out.Terminal)
	}
	code, err := s.admin.Do(ctx, admin.Operation{Action: "code", Terminal: string(b.name)})
	if err != nil {
		return nil, err
	}
	b.slip = code.Ticket
	return []string{string(b.name), fmt.Sprintf("%s, %s", data, pins), out.Terminal.Status, code.Ticket}, nil
}

// enrol has a boxed terminal enrol in its folder.
func (b *boxed) enrol(ctx context.Context, s *site, trustURL string, slip bool) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	if err := os.MkdirAll(b.folder, 0o700); err != nil {
		return err
	}
	medium := terminal.OSFS(b.folder)
	sealer, err := terminal.OpenInsecureFile(medium)
	if errors.Is(err, os.ErrNotExist) {
		sealer, err = terminal.CreateInsecureFile(medium)
	}
	if err != nil {
		return err
	}
	o := terminal.EnrolOptions{URL: s.raURL, TrustURL: trustURL, Tenant: demoTenant, Terminal: b.name}
	if slip {
		if o.Ticket, err = enroll.ParseTicket([]byte(b.slip)); err != nil {
			return err
		}
	}
	return terminal.Enroll(ctx, medium, sealer, o)
}

// enrolTerminals enrols the two that will sell.
func (s *story) enrolTerminals(ctx context.Context) error {
	rows := [][]string{{"TERMINAL", "SLOT", "PURPOSE", "KEY ID", "FIRST KSN", "KEYS", "CERTIFICATE"}}
	for _, b := range s.boxes[:2] {
		begin := time.Now()
		if err := b.enrol(ctx, s.site, s.publicationURL, true); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		took := time.Since(begin)
		made, err := openTill(s.site, b)
		if made != nil {
			s.tills = append(s.tills, made)
		}
		if err != nil {
			return err
		}
		status := made.terminal.Status()
		s.out.held("%s: trust list version %d by its pin, certificate %s, agreement key certified, %d keys, %d ms",
			b.name, status.TrustList, status.Serial, len(status.Slots), took.Milliseconds())
		for _, slot := range status.Slots {
			purpose := "card data, MAC"
			if slot.HasPIN() {
				purpose = "PIN"
			}
			rows = append(rows, []string{
				string(b.name), fmt.Sprint(slot.Slot.Number), purpose, slot.Slot.KeyID.String(), slot.Next.String(),
				fmt.Sprint(slot.Remaining), status.Serial,
			})
		}
		if err := s.registered(ctx, b.name, "pending", status.Serial); err != nil {
			return err
		}
	}
	s.out.table(rows...)
	return nil
}

// registered compares what the registry says with what the terminal has.
func (s *story) registered(ctx context.Context, name keyset.TerminalID, status, serial string) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	row, err := s.admin.Terminal(ctx, string(name))
	if err != nil {
		return err
	}
	if row.Status != status || row.Serial != serial {
		return fmt.Errorf("the registry has %s as %s with certificate %s, want %s with %s", name, row.Status, row.Serial, status, serial)
	}
	return nil
}

// attackSpentCode shows the slip of T-TDES to the registration authority once more, with a key of the thief.
func (s *story) attackSpentCode(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	b := s.boxes[0]
	ticket, err := enroll.ParseTicket([]byte(b.slip))
	if err != nil {
		return err
	}
	defer ticket.Wipe()
	list, _, err := deploy.OpenTrustList(deploy.TrustListPath(s.dir), demoTenant)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := est.NewRequest(key, identity.Identity{Tenant: demoTenant, Role: identity.Terminal, Name: string(b.name)})
	if err != nil {
		return err
	}
	visitor, err := enroll.NewVisitor(enroll.Options{URL: s.raURL, Tenant: demoTenant, Terminal: string(b.name)}, list)
	if err != nil {
		return err
	}
	defer visitor.Close()
	chain, err := visitor.Enroll(ctx, csr, ticket.Code)
	if err == nil {
		return fmt.Errorf("the registration authority certified the thief's key (serial %s), want the refusal CodeSpent", identity.Serial(chain[0]))
	}
	refusal, ok := errors.AsType[*enroll.Refusal](err)
	if !ok || refusal.Code != "CodeSpent" {
		return fmt.Errorf("want the refusal CodeSpent, got: %w", err)
	}
	s.out.held("refused: %d %s, %q", refusal.Status, refusal.Code, refusal.Message)
	return s.registered(ctx, b.name, "pending", s.tills[0].terminal.Status().Serial)
}

// stranger is somebody who publishes a trust list of their own and waits for one-time codes.
type stranger struct {
	trustURL, raURL string
	codes           atomic.Int64 // requests that carried one
}

// newStranger makes an authority of its own, with a certificate of role ra, and a list that names it.
func newStranger(ctx context.Context, b *site, root string) (*stranger, error) {
	pass := deploy.NewBundlePassphrase()
	defer pass.Wipe()
	issuer, err := embedded.Create(filepath.Join(root, "stranger"), embedded.Services, pass, nil)
	if err != nil {
		return nil, err
	}
	defer issuer.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chain, err := issuer.Issue(ctx, ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: demoTenant, Role: identity.RA, Name: "RA-1"},
		IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	if err != nil {
		return nil, err
	}
	doc, err := strangersList(b.dir, issuer, key)
	if err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return serveStranger(ctx, b, cert, doc)
}

// strangersList is the genuine list with another services root, signed by a key that no slip of paper vouches for.
func strangersList(dir string, issuer *embedded.Issuer, key crypto.Signer) ([]byte, error) {
	genuine, _, err := deploy.OpenTrustList(deploy.TrustListPath(dir), demoTenant)
	if err != nil {
		return nil, err
	}
	root := issuer.Chain()[1]
	return trustlist.Sign(&trustlist.List{
		Tenant: demoTenant, Version: genuine.Version, NotBefore: genuine.NotBefore,
		Terminals: genuine.Terminals, Services: append(genuine.Services[:0:0], root), KeyDist: genuine.KeyDist,
	}, key)
}

func serveStranger(ctx context.Context, b *site, cert tls.Certificate, doc []byte) (*stranger, error) {
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		return nil, err
	}
	trust, err := b.deployment.Trust()
	if err != nil {
		return nil, err
	}
	door, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential, Trust: trust, Accept: []identity.Role{identity.Terminal}, Visitors: true, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, err
	}
	s := &stranger{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /trust-list", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/cbor")
		_, _ = w.Write(doc) // whoever asked is gone
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok {
			s.codes.Add(1)
		}
		http.Error(w, "thank you", http.StatusServiceUnavailable)
	})
	for _, l := range []struct {
		url    *string
		scheme string
		config *tls.Config
	}{{&s.trustURL, "http://", nil}, {&s.raURL, "https://", door}} {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*l.url = l.scheme + ln.Addr().String()
		b.run(func() error {
			return serve.Run(ctx, ln, serve.Options{Handler: mux, TLS: l.config, Logger: b.log.With("service", "stranger")})
		})
	}
	return s, nil
}

// attackTrustList has the spare terminal find the stranger where it looks for its authority.
func (s *story) attackTrustList(ctx context.Context) error {
	other, err := newStranger(s.ctx, s.site, s.root)
	if err != nil {
		return err
	}
	b := *s.boxes[2]
	ra := s.raURL
	s.raURL = other.raURL
	err = b.enrol(ctx, s.site, other.trustURL, true)
	s.raURL = ra
	if n := other.codes.Load(); n > 0 {
		return fmt.Errorf("%s gave its one-time code to the stranger", b.name)
	}
	if !errors.Is(err, trustlist.ErrTrust) {
		return fmt.Errorf("want that %s refuses the list, got: %w", b.name, errors.Join(errors.New("not refused"), err))
	}
	s.out.held("%s: %v; the one-time code was not sent", b.name, err)
	return nil
}

// attackDelivery changes the signature, and then the block, of an initial key on its way to the spare terminal. Nothing is
// stored, and nothing is lost: unaltered, the next delivery is taken.
func (s *story) attackDelivery(ctx context.Context) error {
	b := s.boxes[2]
	for i, change := range []struct {
		what string
		do   func(*remote.Delivery)
	}{
		{"its signature", func(d *remote.Delivery) { d.Signature = forged(d.Signature) }},
		{"its encrypted key", func(d *remote.Delivery) { d.Block = lastDigit(d.Block) }},
	} {
		err := s.relay.with(altering(change.do), func() error { return b.enrol(ctx, s.site, s.publicationURL, i == 0) })
		if !errors.Is(err, remote.ErrDelivery) {
			return fmt.Errorf("%s changed: want that %s refuses the delivery, got: %w", change.what, b.name, errors.Join(errors.New("not refused"), err))
		}
		kept, err := keyFiles(b.folder)
		if err != nil {
			return err
		}
		if kept != "" {
			return fmt.Errorf("%s changed: %s stored %s", change.what, b.name, kept)
		}
		s.out.held("a delivery to %s, %s changed between host and authority: refused, nothing stored", b.name, change.what)
	}
	if err := b.enrol(ctx, s.site, s.publicationURL, false); err != nil {
		return fmt.Errorf("unaltered: %w", err)
	}
	s.out.held("%s: the unaltered delivery is taken, under new key ids; it does not sign in here, and stays pending", b.name)
	return nil
}

// altering decodes deliveries on their way and encodes them again after a change.
func altering(change func(*remote.Delivery)) func(string, []byte) []byte {
	return func(path string, answer []byte) []byte {
		d, err := remote.ParseDelivery(answer)
		if err != nil {
			return answer // another kind of answer
		}
		change(d)
		altered, err := d.Marshal()
		if err != nil {
			return answer
		}
		return altered
	}
}

// forged returns a signature of the same form that another key has made.
func forged(signature []byte) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signature
	}
	other, err := ecdsa.SignASN1(rand.Reader, key, make([]byte, 32))
	if err != nil {
		return signature
	}
	return other
}

// lastDigit changes the last digit of a key block, which belongs to its MAC.
func lastDigit(block string) string {
	digit := "0"
	if strings.HasSuffix(block, "0") {
		digit = "1"
	}
	return block[:len(block)-1] + digit
}

// keyFiles names the files with DUKPT registers in a terminal's folder.
func keyFiles(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "slot-") {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, ", "), nil
}
