package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Registry is what the face needs of a registration authority: *provision.Engine has it.
type Registry interface {
	MayRead(by provision.Actor) error
	MayFollow(by provision.Actor) error
	Deny(ctx context.Context, by provision.Actor, action string) error
	Do(ctx context.Context, by provision.Actor, op provision.Operation) (*provision.Outcome, error)
	Approvals(ctx context.Context) ([]*provision.Approval, error)
	Approve(ctx context.Context, by provision.Actor, id string) (*provision.Outcome, error)
	Enlist(ctx context.Context, by provision.Actor, p provision.Part) ([]provision.Enlisted, error)
	Campaign(ctx context.Context, set keyset.ID, after keyset.TerminalID, limit int) (*provision.Campaign, error)
	Select(ctx context.Context, f provision.Filter, after keyset.TerminalID, limit int) (_ []*provision.Terminal, more bool, _ error)
	Terminal(ctx context.Context, id keyset.TerminalID) (*provision.Terminal, error)
	OpenCode(ctx context.Context, id keyset.TerminalID) (expires time.Time, _ error)
	Certificates(ctx context.Context, of keyset.TerminalID, after string, limit int) (_ []provision.Issuance, more bool, _ error)
	CRL(ctx context.Context) ([]byte, error)
	Feed(ctx context.Context, epoch, after uint64, wait time.Duration) ([]byte, error)
	Observe(ctx context.Context, by provision.Actor, o feed.Observations) (feed.ObservationsAnswer, error)
}

// feedWait is how long a request for the feed waits for news: the heartbeat.
const feedWait = time.Second

// endpoint is one line of the table of who may ask what. What changes something asks the registry itself, which looks at
// role and tenant once more; for what only reads, may does.
type endpoint struct {
	method, pattern string
	action          string // in the audit log, when it is refused
	roles           []identity.Role
	may             func(Registry, provision.Actor) error
	answer          func(face, http.ResponseWriter, *http.Request, provision.Actor) error
}

// permits reports whether the caller may ask, by role and tenant.
func (e *endpoint) permits(r Registry, by provision.Actor) bool {
	return slices.Contains(e.roles, by.Identity.Role) && (e.may == nil || e.may(r, by) == nil)
}

var (
	people = []identity.Role{identity.Operator, identity.Auditor}
	hosts  = []identity.Role{identity.Decrypt, identity.AcquirerHost}
)

// endpoints is the table. A pair of role and endpoint that does not stand here is refused.
var endpoints = []endpoint{
	{http.MethodGet, PathTerminals, "read/terminals", people, Registry.MayRead, face.terminals},
	{http.MethodGet, PathTerminals + "/{id}", "read/terminal", people, Registry.MayRead, face.terminal},
	{http.MethodPost, PathOperations, "operate", []identity.Role{identity.Operator}, nil, face.operate},
	{http.MethodGet, PathCampaigns + "/{id}", "read/campaign", people, Registry.MayRead, face.campaign},
	{http.MethodPost, PathFleet, "operate", []identity.Role{identity.Operator}, nil, face.enlist},
	{http.MethodGet, PathApprovals, "read/approvals", people, Registry.MayRead, face.approvals},
	{http.MethodPost, PathApprovals + "/{id}", "approve", []identity.Role{identity.Operator}, nil, face.approve},
	{http.MethodGet, PathCertificates, "read/certificates", people, Registry.MayRead, face.certificates},
	{http.MethodGet, PathCRL, "read/crl", people, Registry.MayRead, face.crl},
	{http.MethodGet, PathFeed, "follow", hosts, Registry.MayFollow, face.feed},
	{http.MethodPost, PathObservations, "observe", []identity.Role{identity.Decrypt}, nil, face.observe},
}

// face answers over a registry.
type face struct{ registry Registry }

// Handler returns the endpoints. Callers are known by their certificates alone.
func Handler(r Registry) http.Handler {
	f := face{r}
	mux := http.NewServeMux()
	for _, e := range endpoints {
		mux.Handle(e.method+" "+e.pattern, serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
			by, err := actor(r)
			if err != nil {
				return err
			}
			if _, browser := r.Header["Origin"]; browser && e.method != http.MethodGet {
				return malformed("header Origin: a browser asks for nothing here, whatever page it shows")
			}
			if !e.permits(f.registry, by) {
				return provision.Problem(r.Context(), f.registry.Deny(r.Context(), by, e.action))
			}
			return provision.Problem(r.Context(), e.answer(f, w, r, by))
		}))
		mux.Handle(e.pattern, serve.MethodNotAllowed(e.method))
	}
	mux.Handle("/", serve.Handler(serve.NotFound))
	return mux
}

// actor says who asks, by the verified certificate. Whoever shows none of ours is nobody that an audit log could name.
func actor(r *http.Request) (provision.Actor, error) {
	if r.TLS == nil {
		return provision.Actor{}, forbidden("the connection is not TLS")
	}
	id, _, err := tlsconf.Peer(*r.TLS)
	if err != nil {
		return provision.Actor{}, forbidden("no certificate of ours")
	}
	return provision.Actor{Identity: id, Source: serve.Source(r)}, nil
}

func (f face) terminals(w http.ResponseWriter, r *http.Request, _ provision.Actor) error {
	q, err := parseQuery(r, queryAfter, queryLimit, queryGroup, queryLabels, queryKeySet)
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	filter, err := q.filter()
	if err != nil {
		return err
	}
	after, err := q.terminal(queryAfter)
	if err != nil {
		return err
	}
	all, more, err := f.registry.Select(r.Context(), filter, after, limit)
	if err != nil {
		return err
	}
	out := terminalList{Terminals: make([]Terminal, len(all)), More: more}
	for i, t := range all {
		out.Terminals[i] = describe(t)
	}
	return write(w, http.StatusOK, out)
}

func (f face) terminal(w http.ResponseWriter, r *http.Request, _ provision.Actor) error {
	id, err := keyset.ParseTerminal(r.PathValue("id"))
	if err != nil {
		return malformed("terminal id: want 1 to 32 of A-Z, 0-9 and -")
	}
	t, err := f.registry.Terminal(r.Context(), id)
	if err != nil {
		return err
	}
	expires, err := f.registry.OpenCode(r.Context(), id)
	if err != nil {
		return err
	}
	out := describe(t)
	out.CodeExpires = unix(expires)
	return write(w, http.StatusOK, out)
}

func (f face) operate(w http.ResponseWriter, r *http.Request, by provision.Actor) error {
	body, err := serve.ReadBody(w, r, serve.TypeJSON, maxRequest)
	if err != nil {
		return err
	}
	op, err := parseOperation(body)
	if err != nil {
		return err
	}
	out, err := f.registry.Do(r.Context(), by, op)
	if err != nil {
		return err
	}
	return writeOutcome(w, out)
}

func (f face) enlist(w http.ResponseWriter, r *http.Request, by provision.Actor) error {
	body, err := serve.ReadBody(w, r, serve.TypeJSON, maxPart)
	if err != nil {
		return err
	}
	defer secret.Wipe(body) // a seed is in it
	part, err := parsePart(body)
	if err != nil {
		return err
	}
	defer part.Seed.Wipe()
	all, err := f.registry.Enlist(r.Context(), by, part)
	if err != nil {
		return err
	}
	defer func() {
		for _, e := range all {
			e.Ticket.Wipe()
		}
	}()
	return write(w, http.StatusOK, describeEnlisted(all))
}

func (f face) campaign(w http.ResponseWriter, r *http.Request, _ provision.Actor) error {
	set, err := keyset.ParseID(r.PathValue("id"))
	if err != nil {
		return malformed("key set: want 1 to 32 of A-Z, 0-9 and -")
	}
	q, err := parseQuery(r, queryAfter, queryLimit)
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	after, err := q.terminal(queryAfter)
	if err != nil {
		return err
	}
	c, err := f.registry.Campaign(r.Context(), set, after, limit)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, describeCampaign(c))
}

func (f face) approvals(w http.ResponseWriter, r *http.Request, _ provision.Actor) error {
	all, err := f.registry.Approvals(r.Context())
	if err != nil {
		return err
	}
	out := approvalList{Approvals: []Approval{}}
	for _, a := range all {
		if a.Approver.IsZero() {
			out.Approvals = append(out.Approvals, describeApproval(a))
		}
	}
	return write(w, http.StatusOK, out)
}

func (f face) approve(w http.ResponseWriter, r *http.Request, by provision.Actor) error {
	body, err := serve.ReadBody(w, r, serve.TypeJSON, maxRequest)
	if err != nil {
		return err
	}
	if text := string(body); text != "" && text != "{}" {
		return malformed("an approval says nothing but its id: want no body, or {}")
	}
	out, err := f.registry.Approve(r.Context(), by, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeOutcome(w, out)
}

func (f face) certificates(w http.ResponseWriter, r *http.Request, _ provision.Actor) error {
	q, err := parseQuery(r, queryTerminal, queryAfter, queryLimit)
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	of, err := q.terminal(queryTerminal)
	if err != nil {
		return err
	}
	all, more, err := f.registry.Certificates(r.Context(), of, q[queryAfter], limit)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, certificateList{Certificates: describeCertificates(all), More: more})
}

func (f face) crl(w http.ResponseWriter, r *http.Request, _ provision.Actor) error {
	der, err := f.registry.CRL(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	_, _ = w.Write(der) // the peer is gone; there is nobody left to tell
	return nil
}

func (f face) feed(w http.ResponseWriter, r *http.Request, by provision.Actor) error {
	var position [2]uint64
	for i, name := range []string{"epoch", "after"} {
		text := r.URL.Query().Get(name)
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != text {
			return malformed("query " + name + ": want a number")
		}
		position[i] = n
	}
	page, err := f.registry.Feed(r.Context(), position[0], position[1], feedWait)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", feed.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(page) // the peer is gone; it asks again
	return nil
}

func (f face) observe(w http.ResponseWriter, r *http.Request, by provision.Actor) error {
	body, err := serve.ReadBody(w, r, serve.TypeJSON, maxRequest)
	if err != nil {
		return err
	}
	o, err := feed.ParseObservations(body)
	if err != nil {
		return malformed(err.Error())
	}
	answer, err := f.registry.Observe(r.Context(), by, *o)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, answer)
}

// writeOutcome answers with what became of an operation: 202 while it waits for a second person.
func writeOutcome(w http.ResponseWriter, o *provision.Outcome) error {
	defer o.Ticket.Wipe()
	status := http.StatusOK
	var out Outcome
	if o.Approval != nil && o.Approval.Approver.IsZero() {
		status = http.StatusAccepted
		a := describeApproval(o.Approval)
		out.Approval = &a
	}
	if o.Terminal != nil {
		t := describe(o.Terminal)
		out.Terminal = &t
	}
	if a := o.Approval; a != nil && a.Operation.Action.OfList() && !a.Approver.IsZero() {
		out.Granted = a.ID
	}
	out.Ticket = string(o.Ticket.Expose())
	return write(w, status, out)
}

func write(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return err
	}
	defer secret.Wipe(body) // a ticket may be in it
	serve.WriteJSON(w, status, body)
	return nil
}
