package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// nobody stands for a peer without a certificate.
const nobody = identity.Role("nobody")

// place is one endpoint of one listener, who may ask it, and what they are answered to the body that is sent here.
type place struct {
	listener, method, path string
	media, body            string
	roles                  []identity.Role
	status                 int
}

func (p place) String() string { return p.method + " " + p.path }

// matrixTerminal is the terminal that the matrix asks about, and asks as.
const matrixTerminal = "T-MATRIX"

// matrix is the table of who may ask what, written out a second time. What does not stand here is refused.
var matrix = func() []place {
	const (
		terminals, services, keyd, decryptd, acquirer = "terminals", "services", "keyd", "decryptd", "acquirer"
		cbor, json, pkcs10                            = "application/cbor", "application/json", est.TypeRequest
	)
	const seen = `{"High":[{"Terminal":"T-NOBODY","KeySet":"AES-DATA","KeyID":"1234567800000001","Ordinal":1}]}`
	everyone := []identity.Role{nobody, identity.Terminal}
	terminal := []identity.Role{identity.Terminal}
	people := []identity.Role{identity.Operator, identity.Auditor}
	operator := []identity.Role{identity.Operator}
	hosts := []identity.Role{identity.Decrypt, identity.AcquirerHost}
	ra := []identity.Role{identity.RA}
	caller := []identity.Role{identity.AcquirerHost}
	return []place{
		{terminals, "GET", est.PathCACerts, "", "", everyone, 200},
		{terminals, "GET", est.PathAttributes, "", "", everyone, 200},
		{terminals, "POST", est.PathEnroll, pkcs10, "!", everyone, 400},
		{terminals, "GET", provision.PathTrustList, "", "", everyone, 200},
		{terminals, "POST", est.PathReenroll, pkcs10, "AAAA", terminal, 400},
		{terminals, "GET", est.PathAgreementCACerts, "", "", terminal, 200},
		{terminals, "POST", est.PathAgreementEnroll, pkcs10, "AAAA", terminal, 400},
		{terminals, "GET", provision.PathEnrolment, "", "", terminal, 200},
		{terminals, "POST", provision.PathKeys, cbor, "x", terminal, 400},

		{services, "GET", admin.PathTerminals, "", "", people, 200},
		{services, "GET", admin.PathTerminals + "/" + matrixTerminal, "", "", people, 200},
		{services, "POST", admin.PathOperations, json, `{"Action":"block","Terminal":"T-NOBODY"}`, operator, 404},
		{services, "POST", admin.PathFleet, json,
			`{"Dry":true,"Terminals":[{"Terminal":"T-NOBODY","Slots":[{"Slot":1,"KeySet":"NOBODYS"}],"Endpoints":["https://localhost:1"]}]}`, operator, 200},
		{services, "GET", admin.PathCampaigns + "/NOBODYS", "", "", people, 404},
		{services, "GET", admin.PathApprovals, "", "", people, 200},
		{services, "POST", admin.PathApprovals + "/" + strings.Repeat("0", 26), json, "", operator, 404},
		{services, "GET", admin.PathCertificates, "", "", people, 200},
		{services, "GET", admin.PathCRL, "", "", people, 200},
		{services, "GET", admin.PathFeed + "?epoch=0&after=0", "", "", hosts, 200},
		{services, "POST", admin.PathObservations, json, seen, []identity.Role{identity.Decrypt}, 200},

		{keyd, "POST", keydist.PathAgreement, cbor, "x", ra, 400},
		{keyd, "POST", keydist.PathDelivery, cbor, "x", ra, 400},
		{keyd, "POST", keydist.PathSettlement, cbor, "x", ra, 400},
		{keyd, "POST", keydist.PathWithdrawal, cbor, "x", ra, 400},
		{keyd, "POST", keydist.PathAdoption, cbor, "x", ra, 400},

		{decryptd, "POST", api.PathTransactions, json, "{}", caller, 400},
		{decryptd, "POST", api.PathAnswer, json, "{}", caller, 400},
		{decryptd, "POST", api.PathBatch, json, "{}", caller, 400},
		{decryptd, "POST", "/keys/alias%2Fbdk/decrypt", json, "{}", caller, 400},
		{decryptd, "POST", "/keys/alias/bdk/encrypt", json, "{}", caller, 400},
		{decryptd, "POST", "/keys/alias%2Fbdk/reencrypt", json, "{}", caller, 400},
		{decryptd, "POST", "/pindata/translate", json, "{}", caller, 400},
		{decryptd, "POST", "/mac/generate", json, "{}", caller, 400},
		{decryptd, "POST", "/mac/verify", json, "{}", caller, 400},
		{decryptd, "GET", api.PathTerminals + matrixTerminal + api.PathCounters, "", "", caller, 200},

		{acquirer, "POST", "/messages", cbor, "x", terminal, 400},
	}
}()

// door is a listener, and the role that its server shows.
type door struct {
	name, address string
	server        identity.Role
}

// holder is who knocks: a role and a certificate for it, or none.
type holder struct {
	name   string
	role   identity.Role // in the matrix; empty for one that may do nothing
	cert   *tls.Certificate
	barred string // listener that knows better than the role
}

// holders makes somebody of every role, once of the tenant and once of another, all certified by the authorities that are
// trusted here, and a terminal of which the registry does not know the certificate.
func (p *payments) holders(t *testing.T) []holder {
	t.Helper()
	d, err := deploy.Open(p.dir, secret.From([]byte(passphraseText)))
	check(t, err)
	defer d.Close()
	certify := func(tenant string, role identity.Role, name string) *tls.Certificate {
		issuer, err := d.Issuer(role.Authority())
		check(t, err)
		key := newKey(t)
		chain, err := issuer.Issue(t.Context(), ca.Request{
			PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: role, Name: name},
		})
		check(t, err)
		return &tls.Certificate{Certificate: ders(chain), PrivateKey: key}
	}
	names := map[identity.Role]string{identity.Terminal: matrixTerminal, identity.AcquirerHost: "ACQ-1", identity.Agreement: matrixTerminal}
	p.register(t, matrixTerminal)
	key := newKey(t)
	r := p.visitor(t, nil).enrol(t, matrixTerminal, p.slip(t, admin.Operation{Terminal: matrixTerminal}), request(t, matrixTerminal, key))
	want(t, "enrolment", r, http.StatusOK, "")
	out := []holder{
		{name: "nobody", role: nobody},
		{name: "terminal", role: identity.Terminal, cert: &tls.Certificate{Certificate: ders(r.chain), PrivateKey: key}},
		{name: "terminal with a certificate beside the registry", cert: certify(tenant, identity.Terminal, matrixTerminal)},
		{name: "terminal that is not registered", cert: certify(tenant, identity.Terminal, "T-STRANGER")},
		{name: "acquirer-host that is no caller", role: identity.AcquirerHost, cert: certify(tenant, identity.AcquirerHost, "ACQ-9"), barred: "decryptd"},
	}
	for _, role := range identity.Roles() {
		name := names[role]
		if name == "" {
			name = "X-1"
		}
		if role != identity.Terminal {
			out = append(out, holder{name: role.String(), role: role, cert: certify(tenant, role, name)})
		}
		out = append(out, holder{name: role.String() + " of another tenant", cert: certify("OTHER", role, name)})
	}
	return out
}

// knocker makes calls with a certificate at a door.
func (p *payments) knocker(t *testing.T, d door, h holder) *http.Client {
	t.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{Visitor: true, Trust: p.trust, ServerRole: d.server, Gate: tlsconf.OpenGate()})
	check(t, err)
	if h.cert != nil { // also one that no honest client would show
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return h.cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// ask makes one call. It returns the status, or 0 when the connection was refused.
func (p place) ask(t *testing.T, c *http.Client, d door) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), p.method, "https://"+d.address+p.path, strings.NewReader(p.body))
	check(t, err)
	if p.media != "" {
		req.Header.Set("Content-Type", p.media)
	}
	if p.path == est.PathEnroll {
		req.SetBasicAuth(matrixTerminal, strings.Repeat("0", 26))
	}
	resp, err := c.Do(req)
	if connectionRefused(err) {
		return 0, err.Error()
	}
	check(t, err)
	b, err := io.ReadAll(resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(bytes.TrimSpace(b[:min(len(b), 200)]))
}

// connectionRefused reports whether a call failed because the server ended the connection: by an alert of TLS, or by an end
// that overtook the alert.
func connectionRefused(err error) bool {
	return tlsconf.Alert(err) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}

// lists reports whether a holder is to be served at a door.
func (p place) lists(d door, h holder) bool {
	return p.listener == d.name && slices.Contains(p.roles, h.role) && h.barred != d.name
}

// verdict says of an answer whether it is as the matrix wants it, and what it was.
func (p place) verdict(d door, h holder, status int) (outcome string, ok bool) {
	switch {
	case p.lists(d, h):
		return "served", status == p.status
	case status == 0:
		return "refused by the connection", true
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return "refused by the endpoint", true
	case p.listener != d.name && status == http.StatusNotFound:
		return "not there", true
	}
	return "served", false
}

// TestRoleMatrix asks every endpoint of every program at every listener, as somebody of every role: whoever is not listed is
// refused, and whoever is listed is served.
func TestRoleMatrix(t *testing.T) {
	p := newPayments(t)
	doors := []door{
		{"terminals", p.ra.doors["terminals"], identity.RA}, {"services", p.ra.doors["services"], identity.RA},
		{"keyd", p.keyd.doors["listen"], identity.KDH}, {"decryptd", p.decryptd.doors["listen"], identity.Decrypt},
		{"acquirer", p.acquirer[len("https://"):], identity.AcquirerHost},
	}
	holders := p.holders(t)
	p.known(t, doors, holders)
	count := make(map[string]int)
	listed := 0
	for _, d := range doors {
		for _, h := range holders {
			c := p.knocker(t, d, h)
			for _, e := range matrix {
				status, answer := e.ask(t, c, d)
				outcome, ok := e.verdict(d, h, status)
				if !ok {
					t.Errorf("%s at %s, %v: %d %s", h.name, d.name, e, status, answer)
				}
				count[outcome]++
				if e.lists(d, h) {
					listed++
				}
			}
		}
	}
	if least := len(matrix); count["served"] != listed || listed < least || count["refused by the connection"] < least || count["refused by the endpoint"] < least {
		t.Errorf("%v, listed are %d", count, listed)
	}
	t.Logf("%d peers, %d endpoints, %d listeners: %v", len(holders), len(matrix), len(doors), count)
	p.publication(t)
	for _, s := range []*service{p.decryptd, p.ra, p.keyd} {
		s.admin(t)
		if log := s.log.String(); strings.Contains(log, "panic") { // a connection that ends so is no refusal
			t.Errorf("%s: %s", s.program, log)
		}
		s.stop(t)
	}
}

// known waits until those that follow the feed know the terminal.
func (p *payments) known(t *testing.T, doors []door, holders []holder) {
	t.Helper()
	for _, e := range matrix {
		for _, d := range doors {
			i := slices.IndexFunc(holders, func(h holder) bool { return e.lists(d, h) })
			if i < 0 || d.name != "decryptd" && d.name != "acquirer" {
				continue
			}
			until(t, time.Now(), fmt.Sprintf("%v knows the terminal", e), func() bool {
				status, _ := e.ask(t, p.knocker(t, d, holders[i]), d)
				return status == e.status
			})
		}
	}
}

// publication asks everything over plain HTTP: it gives out what is signed, and nothing else.
func (p *payments) publication(t *testing.T) {
	t.Helper()
	askPlainly(t, p.ra.doors["publication"], map[string]int{provision.PathTrustList: 200, provision.PathCRL: 200, "/": 404, "/livez": 404, "/metrics": 404})
}

// admin asks everything over plain HTTP where operators of the machine look: it tells health and counts, and nothing else.
func (s *service) admin(t *testing.T) {
	t.Helper()
	askPlainly(t, s.doors["admin"], map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/": 404, "/debug/pprof/": 404})
}

// askPlainly asks for these paths and for every endpoint of the matrix, which are not there unless they are listed.
func askPlainly(t *testing.T, address string, public map[string]int) {
	t.Helper()
	for _, e := range matrix {
		if public[e.path] == 0 {
			public[e.path] = 404
		}
	}
	for path, status := range public {
		resp, err := http.Get("http://" + address + path)
		check(t, err)
		check(t, resp.Body.Close())
		if resp.StatusCode != status {
			t.Errorf("%s%s: %d, want %d", address, path, resp.StatusCode, status)
		}
	}
}
