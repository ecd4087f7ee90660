package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// visitor is somebody at the terminals' listener, with a network address of its own: the authority counts attempts by
// source. It sends what it is told to, where the client of a terminal would look first.
type visitor struct {
	root string
	http *http.Client
}

// places numbers the loopback addresses that visitors come from.
var places atomic.Uint32

// visitor shows a certificate if it has one, and makes a connection for each call.
func (a *authority) visitor(t *testing.T, c *tlsconf.Credential) *visitor {
	t.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: c, Visitor: c == nil, Trust: a.trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	n := places.Add(1)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}}
	transport := &http.Transport{TLSClientConfig: config, DialContext: dialer.DialContext, DisableKeepAlives: true}
	return &visitor{root: "https://" + a.ra.doors["terminals"], http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// reply is what came back.
type reply struct {
	status int
	code   string        // of a refusal
	retry  time.Duration // of a refusal
	chain  []*x509.Certificate
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.code) }

// serial returns that of the certificate, empty when there is none.
func (r reply) serial() string {
	if len(r.chain) == 0 {
		return ""
	}
	return identity.Serial(r.chain[0])
}

// send posts a body as it is. user and code may be empty: then there is no header for them.
func (v *visitor) send(ctx context.Context, path, media, user, code string, body []byte) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.root+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", media)
	if user != "" {
		req.SetBasicAuth(user, code)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	return readReply(resp, got)
}

func readReply(resp *http.Response, body []byte) (reply, error) {
	r := reply{status: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.retry = time.Duration(seconds) * time.Second
	}
	if r.status == http.StatusOK {
		var err error
		r.chain, err = est.DecodeCerts(body)
		return r, err
	}
	var said struct{ Code, Message string }
	if err := json.Unmarshal(body, &said); err != nil || said.Code == "" || said.Message == "" {
		return r, fmt.Errorf("status %d with the body %q", r.status, body)
	}
	r.code = said.Code
	if (r.status == http.StatusUnauthorized) != (resp.Header.Get("WWW-Authenticate") != "") {
		return r, fmt.Errorf("status %d with WWW-Authenticate %q", r.status, resp.Header.Get("WWW-Authenticate"))
	}
	return r, nil
}

// enrol shows a code and a signing request.
func (v *visitor) enrol(t *testing.T, terminal, code string, csr []byte) reply {
	t.Helper()
	r, err := v.send(t.Context(), est.PathEnroll, est.TypeRequest, terminal, code, est.EncodeRequest(csr))
	check(t, err)
	return r
}

// want demands an answer.
func want(t *testing.T, what string, got reply, status int, code string) {
	t.Helper()
	if got.status != status || got.code != code {
		t.Errorf("%s: %v, want %d %s", what, got, status, code)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// request is the signing request that an honest terminal makes for a key.
func request(t *testing.T, terminal string, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	csr, err := est.NewRequest(key, identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: terminal})
	check(t, err)
	return csr
}

// credential is what a terminal shows with a chain that it was given.
func credential(t *testing.T, chain []*x509.Certificate, key *ecdsa.PrivateKey) *tlsconf.Credential {
	t.Helper()
	c, err := tlsconf.NewCredential(tls.Certificate{Certificate: ders(chain), PrivateKey: key})
	check(t, err)
	return c
}

// register makes terminals known, each with a slot for card data.
func (a *authority) register(t *testing.T, terminals ...string) {
	t.Helper()
	for _, id := range terminals {
		_, err := a.admin().Do(t.Context(), admin.Operation{
			Action: "register", Terminal: id, Endpoints: []string{"https://localhost:1"},
			Slots: []admin.SlotAssignment{{Slot: sample.DataSlot, KeySet: "AES-DATA"}},
		})
		check(t, err)
	}
}

// ticket has a one-time code made for a terminal, as the operation says, and returns what it is told on paper.
func (a *authority) ticket(t *testing.T, op admin.Operation) string {
	t.Helper()
	op.Action = "code"
	out, err := a.admin().Do(t.Context(), op)
	check(t, err)
	return out.Ticket
}

// slip is ticket, and returns the code as a terminal sends it.
func (a *authority) slip(t *testing.T, op admin.Operation) string {
	t.Helper()
	ticket, err := enroll.ParseTicket([]byte(a.ticket(t, op)))
	check(t, err)
	defer ticket.Wipe()
	return string(ticket.Code.Expose())
}

// issued is how many certificates of role terminal a terminal has been given.
type issued struct {
	current  int // as the registry has it
	recorded int // in the registry, in any state
	ledger   int // in the ledger of the issuer, which signs
}

// issuedTo counts. The registry and the issuer keep their records apart.
func (a *authority) issuedTo(t *testing.T, terminal string) (n issued) {
	t.Helper()
	certs, err := a.admin().Certificates(t.Context())
	check(t, err)
	for _, c := range certs {
		if c.Terminal != terminal || c.Role != identity.Terminal.String() {
			continue
		}
		n.recorded++
		if c.State == "current" {
			n.current++
		}
	}
	id := identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: terminal}
	n.ledger = len(a.ledger(t)[id.String()])
	return n
}

// ledger returns the serial numbers that the issuer of terminals says it signed, by identity.
func (a *authority) ledger(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	a.eachIssued(t, func(identity, serial, _ string) { out[identity] = append(out[identity], serial) })
	return out
}

// keysSigned returns the keys, by their hashes, that the issuer of terminals says it signed for each identity.
func (a *authority) keysSigned(t *testing.T) map[string]map[string]bool {
	t.Helper()
	out := make(map[string]map[string]bool)
	a.eachIssued(t, func(identity, _, key string) {
		if out[identity] == nil {
			out[identity] = make(map[string]bool)
		}
		out[identity][key] = true
	})
	return out
}

func (a *authority) eachIssued(t *testing.T, yield func(identity, serial, key string)) {
	t.Helper()
	f, err := os.Open(filepath.Join(a.dir, "ca", identity.TerminalCA.String(), embedded.LedgerFile))
	check(t, err)
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var entry struct {
			Event, Identity, Serial string
			KeyHash                 string `json:"key_hash"`
		}
		check(t, json.Unmarshal(lines.Bytes(), &entry))
		if entry.Event == "issued" {
			yield(entry.Identity, entry.Serial, entry.KeyHash)
		}
	}
	check(t, lines.Err())
}
