package terminaltest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// Code is the first one-time code of every RA.
const Code = "0123456789ABCDEFGHJKMNPQRS"

// The paths of an RA, as its hooks see them.
const (
	PathTrustList       = "/trust-list"
	PathAssignment      = "/enrolment"
	PathKeys            = "/keys"
	PathEnroll          = est.PathEnroll
	PathReenroll        = est.PathReenroll
	PathEnrollAgreement = est.PathAgreementEnroll
)

// RA is the registration authority and the key-distribution host of a lab in one: the terminal enrols there over the
// network, and its keys are known to the lab's Host as delivered. Set the hooks before there are requests.
type RA struct {
	URL, TrustURL string // where it listens

	// Before, if not nil, is called before each request; an error ends the connection without an answer, and nothing has
	// happened. It is not called for the trust list over plain HTTP.
	Before func(path string) error
	// After, if not nil, is called when a request has been processed; an error loses the answer.
	After func(path string) error
	// Refuse, if not nil, gives an answer instead of processing a request.
	Refuse func(path string) *enroll.Refusal
	// Bind, if not nil, changes what the key-distribution host takes for the session.
	Bind func(*remote.Binding)
	// Set, if not nil, gives the key set that is delivered.
	Set func(*keyset.KeySet) *keyset.KeySet
	// Spoil, if not nil, changes a delivery on its way.
	Spoil func([]byte) []byte
	// Assign, if not nil, changes what is assigned.
	Assign func(*remote.Assignment)

	mu         sync.Mutex
	lab        *Lab
	credential *tlsconf.Credential // of the listener
	signer     *ecdsa.PrivateKey   // of the trust lists
	list       *trustlist.List
	document   []byte
	kdh        *ecdsa.PrivateKey
	kdhCert    *x509.Certificate
	code       string            // which is expected
	permitted  []byte            // the agreement key that came with it
	before     *x509.Certificate // that was current before the last renewal
	spent      []byte            // the key that the code was spent for
	codes      int               // how many were made anew
	second     int               // other keys that came with it
	current    *x509.Certificate // of the terminal
	previous   string            // serial of the one before
	renewals   map[string]bool   // the keys that came to be certified by an earlier certificate
	issued     map[uint8]uint8   // how many keys were delivered for a slot
	ordered    map[uint8]dukpt.KeyID
	endpoints  []string
	after      time.Time // when to renew
	agreement  *x509.Certificate

	attestation [][]byte // of the last request
}

// NewRA starts an RA that expects the lab's terminal; the host of the lab then knows no key of it. It stops with the test.
func NewRA(tb testing.TB, l *Lab) *RA {
	tb.Helper()
	return NewRAAs(tb, l, identity.Identity{Tenant: Tenant, Role: identity.RA, Name: "RA-1"})
}

// NewRAAs starts an RA that shows the certificate of another identity of the services authority.
func NewRAAs(tb testing.TB, l *Lab, id identity.Identity) *RA {
	tb.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	kdh := l.keydist.issue(tb, identity.Identity{Tenant: Tenant, Role: identity.KDH, Name: "KDH-1"})
	now := time.Now().UTC().Truncate(time.Second)
	ra := &RA{
		code: Code, lab: l, signer: signer, kdh: kdh.PrivateKey.(*ecdsa.PrivateKey), kdhCert: kdh.Leaf,
		renewals: make(map[string]bool), issued: make(map[uint8]uint8), ordered: make(map[uint8]dukpt.KeyID),
		endpoints: []string{"https://host.invalid:8443"}, after: now.Add(6 * time.Hour),
	}
	ra.Publish(tb, func(list *trustlist.List) {})
	l.Host.Forget()
	ra.listen(tb, l.credential(tb, l.services, id))
	return ra
}

func (ra *RA) listen(tb testing.TB, c *tlsconf.Credential) {
	tb.Helper()
	ra.credential = c
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: c, Trust: ra.lab.Trust, Accept: []identity.Role{identity.Terminal}, Visitors: true,
		Gate: tlsconf.GateFunc(ra.admit),
	})
	check(tb, err)
	plain := http.NewServeMux()
	plain.HandleFunc("GET "+PathTrustList, func(w http.ResponseWriter, _ *http.Request) { ra.writeList(w) })
	ra.TrustURL = "http://" + serve(tb, &http.Server{Handler: plain})
	ra.URL = "https://" + serve(tb, &http.Server{Handler: http.HandlerFunc(ra.answer), TLSConfig: config})
}

func serve(tb testing.TB, s *http.Server) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, err)
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.ReadHeaderTimeout = 10 * time.Second
	go func() {
		if s.TLSConfig != nil {
			_ = s.ServeTLS(l, "", "") // ends with Close
		} else {
			_ = s.Serve(l)
		}
	}()
	tb.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// Ticket returns the ticket of the terminal, which the caller wipes.
func (ra *RA) Ticket(tb testing.TB) enroll.Ticket {
	tb.Helper()
	pin, err := trustlist.PinOf(ra.signer.Public())
	check(tb, err)
	ra.mu.Lock()
	defer ra.mu.Unlock()
	return enroll.Ticket{Code: secret.From([]byte(ra.code)), Pin: pin}
}

// NewCode has another code expected from now on, as for a terminal that is to enrol again.
func (ra *RA) NewCode() {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.codes++
	ra.code, ra.spent = fmt.Sprintf("%026d", ra.codes), nil
}

// Restore has the RA forget the latest renewal, as one does that comes back from a backup.
func (ra *RA) Restore() {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.current, ra.previous = ra.before, ""
}

// Publish signs the next trust list, after change has been made to it.
func (ra *RA) Publish(tb testing.TB, change func(*trustlist.List)) {
	tb.Helper()
	ra.mu.Lock()
	defer ra.mu.Unlock()
	next := trustlist.List{
		Tenant: Tenant, NotBefore: time.Now().UTC().Truncate(time.Second).Add(-time.Minute),
		Terminals: []*x509.Certificate{ra.lab.terminals.cert}, Services: []*x509.Certificate{ra.lab.services.cert},
		KeyDist: []*x509.Certificate{ra.lab.keydist.cert}, Version: 1,
	}
	if ra.list != nil {
		next.Version = ra.list.Version + 1
	}
	change(&next)
	document, err := trustlist.Sign(&next, ra.signer)
	check(tb, err)
	ra.list, ra.document = &next, document
}

// MoveServices gives the RA a certificate of a new services authority, and publishes a list that change has told of its root.
func (ra *RA) MoveServices(tb testing.TB, change func(*trustlist.List, *x509.Certificate)) {
	tb.Helper()
	next := newAuthority(tb, "services, the second")
	cert := next.issue(tb, identity.Identity{Tenant: Tenant, Role: identity.RA, Name: "RA-1"})
	check(tb, ra.credential.Set(cert))
	ra.Publish(tb, func(l *trustlist.List) { change(l, next.cert) })
}

// Republish puts another document in the place of the list.
func (ra *RA) Republish(document []byte) {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.document = document
}

// List returns the trust list as it is signed.
func (ra *RA) List() []byte {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	return ra.document
}

// Order has a new key wanted for a slot until the host has confirmed one.
func (ra *RA) Order(slot uint8) {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.ordered[slot] = ra.lab.Host.Active(slot)
}

// Endpoints sets where the terminal is told to call.
func (ra *RA) Endpoints(urls ...string) {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.endpoints = urls
}

// RenewAfter sets when the terminal is told to renew.
func (ra *RA) RenewAfter(at time.Time) {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.after = at.UTC().Truncate(time.Second)
}

// Second returns how many further keys came with a code that was spent.
func (ra *RA) Second() int {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	return ra.second
}

// Attested reports whether the last request for a key came with the certificate of a maker for the agreement key.
func (ra *RA) Attested() bool {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	if len(ra.attestation) == 0 {
		return false
	}
	cert, err := x509.ParseCertificate(ra.attestation[0])
	return err == nil && bytes.Equal(cert.RawSubjectPublicKeyInfo, ra.agreement.RawSubjectPublicKeyInfo)
}

// Renewals returns how many keys came to be certified by an earlier certificate.
func (ra *RA) Renewals() int {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	return len(ra.renewals)
}

// Delivered returns how many keys were delivered for a slot.
func (ra *RA) Delivered(slot uint8) int {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	return int(ra.issued[slot])
}

// Serial returns the serial number of the terminal's current certificate, empty before the first.
func (ra *RA) Serial() string {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	if ra.current == nil {
		return ""
	}
	return identity.Serial(ra.current)
}

// Retire ends the previous certificate: only the current one connects from now on.
func (ra *RA) Retire() {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	ra.previous = ""
}

// admit lets the current and the previous certificate of the terminal in.
func (ra *RA) admit(_ identity.Identity, serial string) error {
	ra.mu.Lock()
	defer ra.mu.Unlock()
	if ra.current == nil || serial != identity.Serial(ra.current) && serial != ra.previous {
		return errors.New("not a current certificate")
	}
	return nil
}

// answer serves the terminal.
func (ra *RA) answer(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if ra.Before != nil && ra.Before(path) != nil {
		panic(http.ErrAbortHandler)
	}
	if ra.Refuse != nil {
		if refusal := ra.Refuse(path); refusal != nil {
			refuse(w, refusal)
			return
		}
	}
	body, kind, err := ra.process(r)
	if ra.After != nil && ra.After(path) != nil {
		panic(http.ErrAbortHandler)
	}
	if refusal, ok := errors.AsType[*enroll.Refusal](err); ok {
		refuse(w, refusal)
		return
	}
	if err != nil {
		refuse(w, &enroll.Refusal{Status: http.StatusBadRequest, Code: "Refused", Message: "the request is not one"})
		return
	}
	w.Header().Set("Content-Type", kind)
	if kind == est.TypeCerts {
		w.Header().Set("Content-Transfer-Encoding", est.TransferEncoding)
	}
	_, _ = w.Write(body) // a terminal that is gone asks again
}

func refuse(w http.ResponseWriter, r *enroll.Refusal) {
	b, err := json.Marshal(map[string]string{"Code": r.Code, "Message": r.Message})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int(r.RetryAfter/time.Second)))
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(b)
}

func (ra *RA) writeList(w http.ResponseWriter) {
	w.Header().Set("Content-Type", typeCBOR)
	_, _ = w.Write(ra.List())
}

const typeCBOR = "application/cbor"

func (ra *RA) process(r *http.Request) (body []byte, kind string, err error) {
	in, err := io.ReadAll(io.LimitReader(r.Body, est.MaxBody))
	if err != nil {
		return nil, "", err
	}
	ra.mu.Lock()
	defer ra.mu.Unlock()
	switch r.Method + " " + r.URL.Path {
	case "GET " + PathTrustList:
		return ra.document, typeCBOR, nil
	case "POST " + PathEnroll:
		body, err = ra.enrol(r, in)
		return body, est.TypeCerts, err
	}
	if id, _, err := tlsconf.Peer(*r.TLS); err != nil || id != terminalID {
		return nil, "", &enroll.Refusal{Status: http.StatusForbidden, Code: "NoCertificate", Message: "show a certificate"}
	}
	leaf := r.TLS.PeerCertificates[0]
	if identity.Serial(leaf) != identity.Serial(ra.current) && r.URL.Path != PathReenroll {
		return nil, "", superseded
	}
	switch r.Method + " " + r.URL.Path {
	case "POST " + PathReenroll:
		body, err = ra.reenrol(leaf, in)
		return body, est.TypeCerts, err
	case "POST " + PathEnrollAgreement:
		body, err = ra.enrolAgreement(leaf, in)
		return body, est.TypeCerts, err
	case "GET " + PathAssignment:
		body, err = ra.assignment().Marshal()
		return body, typeCBOR, err
	case "POST " + PathKeys:
		exporter, err := remote.Exporter(r.TLS)
		if err != nil {
			return nil, "", err
		}
		body, err = ra.deliver(leaf, in, exporter)
		return body, typeCBOR, err
	}
	return nil, "", &enroll.Refusal{Status: http.StatusNotFound, Code: "NotFound", Message: "no such path"}
}

var superseded = &enroll.Refusal{Status: http.StatusForbidden, Code: "CertificateSuperseded", Message: "it was renewed"}

var terminalID = identity.Identity{Tenant: Tenant, Role: identity.Terminal, Name: TerminalID}

// enrol certifies the TLS key, once for the code; the same key may come again.
func (ra *RA) enrol(r *http.Request, body []byte) ([]byte, error) {
	user, code, ok := est.ParseBasic(r)
	defer code.Wipe()
	if !ok || user != TerminalID || string(code.Expose()) != ra.code {
		return nil, &enroll.Refusal{Status: http.StatusUnauthorized, Code: "CodeRefused", Message: "no such code"}
	}
	key, spki, err := requested(body, est.Policy{Identity: terminalID})
	if err != nil {
		return nil, err
	}
	if ra.spent != nil && string(spki) != string(ra.spent) {
		ra.second++
		return nil, &enroll.Refusal{Status: http.StatusUnauthorized, Code: "CodeRefused", Message: "spent"}
	}
	if ra.spent != nil {
		return est.EncodeCerts([]*x509.Certificate{ra.current})
	}
	ra.spent, ra.permitted = spki, nil
	return ra.certifyTLS(key)
}

func (ra *RA) reenrol(leaf *x509.Certificate, body []byte) ([]byte, error) {
	key, spki, err := requested(body, est.Policy{Identity: terminalID, Current: leaf})
	if err != nil {
		return nil, err
	}
	if string(spki) == string(ra.current.RawSubjectPublicKeyInfo) {
		return est.EncodeCerts([]*x509.Certificate{ra.current})
	}
	if identity.Serial(leaf) != identity.Serial(ra.current) {
		return nil, superseded
	}
	ra.renewals[string(spki)] = true
	previous := identity.Serial(leaf)
	ra.before = ra.current
	out, err := ra.certifyTLS(key)
	ra.previous = previous
	return out, err
}

func (ra *RA) certifyTLS(key crypto.PublicKey) ([]byte, error) {
	cert, err := ra.lab.terminals.certify(key, terminalID)
	if err != nil {
		return nil, err
	}
	ra.current = cert
	return est.EncodeCerts([]*x509.Certificate{cert})
}

func (ra *RA) enrolAgreement(leaf *x509.Certificate, body []byte) ([]byte, error) {
	id := terminalID
	id.Role = identity.Agreement
	key, spki, err := requested(body, est.Policy{Identity: id, Current: leaf})
	if err != nil {
		return nil, err
	}
	if ra.permitted != nil && string(ra.permitted) != string(spki) {
		return nil, &enroll.Refusal{Status: http.StatusForbidden, Code: "AgreementNotPermitted", Message: "another key was"}
	}
	ra.permitted = spki
	cert, err := ra.lab.keydist.certify(key, id)
	if err != nil {
		return nil, err
	}
	ra.agreement = cert
	return est.EncodeCerts([]*x509.Certificate{cert})
}

func requested(body []byte, p est.Policy) (crypto.PublicKey, []byte, error) {
	der, err := est.DecodeRequest(body)
	if err != nil {
		return nil, nil, err
	}
	key, err := est.CheckRequest(der, p)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	return key, spki, err
}

func (ra *RA) assignment() *remote.Assignment {
	a := &remote.Assignment{
		Tenant: Tenant, Terminal: TerminalID, Environment: keyset.Test, Endpoints: ra.endpoints,
		RenewAfter: ra.after, RenewBefore: ra.after.Add(2 * time.Hour),
	}
	for _, slot := range []uint8{DataSlot, PINSlot} {
		set, active := ra.lab.Sets[slot], ra.lab.Host.Active(slot)
		ordered, ok := ra.ordered[slot]
		a.Slots = append(a.Slots, remote.AssignedSlot{
			Slot: slot, KeySet: set.ID, Delivery: set.Delivery, KeyID: active,
			Wanted: active.IsZero() || ok && ordered == active,
		})
	}
	if ra.Assign != nil {
		ra.Assign(a)
	}
	return a
}

// deliver derives the next key of the slot and seals it for the session.
func (ra *RA) deliver(leaf *x509.Certificate, body []byte, exporter [remote.NonceSize]byte) ([]byte, error) {
	req, err := remote.ParseRequest(body)
	if err != nil {
		return nil, err
	}
	set := ra.lab.Sets[req.Slot]
	if set == nil || ra.agreement == nil {
		return nil, &enroll.Refusal{Status: http.StatusConflict, Code: "NotAssigned", Message: "no such slot, or no agreement key"}
	}
	ra.attestation = req.Attestation
	ra.issued[req.Slot]++
	id, err := ra.lab.newKeyID(req.Slot, ra.issued[req.Slot])
	if err != nil {
		return nil, err
	}
	ik, err := ra.lab.Base[req.Slot].Derive(id)
	if err != nil {
		return nil, err
	}
	defer ik.Wipe()
	binding := remote.Binding{
		Tenant: Tenant, Terminal: TerminalID, Slot: req.Slot, TLS: leaf, Agreement: ra.agreement, Nonce: req.Nonce, Exporter: exporter,
	}
	if ra.Bind != nil {
		ra.Bind(&binding)
	}
	if ra.Set != nil {
		set = ra.Set(set.Clone())
	}
	d, err := remote.Seal(binding, set, ra.lab.Host.Active(req.Slot), ik, time.Now(), ra.kdh, []*x509.Certificate{ra.kdhCert})
	if err != nil {
		return nil, &enroll.Refusal{Status: http.StatusConflict, Code: "SuiteMismatch", Message: "the key cannot be sealed: " + err.Error()}
	}
	out, err := d.Marshal()
	if err != nil {
		return nil, err
	}
	ra.lab.Host.Expect(req.Slot, id)
	if ra.Spoil != nil {
		out = ra.Spoil(out)
	}
	return out, nil
}
