package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// enrolee is one terminal on its way, with what was seen of it.
type enrolee struct {
	id     keyset.TerminalID
	scheme dukpt.Scheme
	dir    string
	ticket string // the last one

	mu     sync.Mutex
	honest int // answers that certified the terminal's own key under the last ticket
	others int // answers that certified another key under the last ticket
	lost   int // attempts with another key under the last ticket whose answer never came
	codes  int // that were handed out
	asked  int // attempts to renew
	keys   []string
}

// onboarding is the load: terminals that enrol, and somebody with a copy of each slip of paper.
type onboarding struct {
	a        *authority
	root     string
	next     atomic.Int64
	patience time.Duration
	renews   bool         // terminals renew their certificate once they have their keys
	inFlight atomic.Int64 // terminals between their first request and their last key, or that renew

	mu          sync.Mutex
	done        []*enrolee
	took        []time.Duration // from registration to confirmation, of those that are done
	faults      []string
	interrupted map[string]int // attempts to enrol that ended without an answer, by what was asked
	refusals    map[string]int // of second keys, by code
	tried       int            // second keys tried after a kill and refused because the code was spent
}

func newOnboarding(t *testing.T, a *authority, patience time.Duration) *onboarding {
	return &onboarding{
		a: a, root: t.TempDir(), patience: patience, refusals: make(map[string]int), interrupted: make(map[string]int),
	}
}

func (o *onboarding) fault(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, fmt.Sprintf(format, args...))
}

// work enrols one terminal after the other until ctx ends. A terminal that was begun is brought to its end.
func (o *onboarding) work(ctx context.Context) {
	for ctx.Err() == nil {
		n := o.next.Add(1)
		e := &enrolee{id: keyset.TerminalID(fmt.Sprintf("T-%05d", n)), scheme: dukpt.AES, dir: filepath.Join(o.root, fmt.Sprint(n))}
		if n%3 == 0 {
			e.scheme = dukpt.TDES
		}
		begun := time.Now()
		if err := o.onboard(e); err != nil {
			o.fault("terminal %s is stuck: %v", e.id, err)
			continue // the load has to stay up
		}
		o.mu.Lock()
		o.done = append(o.done, e)
		o.took = append(o.took, time.Since(begun))
		o.mu.Unlock()
	}
}

// stuckAfter is when a terminal that does not come through counts as stuck: the pause after eight keys whose answers were
// lost is a minute, and a kill may cost it the answer again.
const stuckAfter = 4 * time.Minute

// onboard registers, hands out the code, enrols and confirms, each again and again until it works.
func (o *onboarding) onboard(e *enrolee) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.patience)
	defer cancel()
	steps := []func(context.Context, *enrolee) error{o.register, o.code, o.enrol, o.confirm}
	if o.renews {
		steps = append(steps, o.renew)
	}
	for _, step := range steps {
		seen := make(map[string]int) // what stood in the way, since the last refusal may be no more than "too often"
		for {
			attempt, end := context.WithTimeout(ctx, 8*time.Second)
			err := step(attempt, e)
			end()
			if err == nil {
				break
			}
			seen[err.Error()]++
			select {
			case <-ctx.Done():
				return fmt.Errorf("%v", seen)
			case <-time.After(time.Duration(50+mathrand.IntN(100)) * time.Millisecond): // back-off, not a wait for anything
			}
		}
	}
	return nil
}

func (o *onboarding) register(ctx context.Context, e *enrolee) error {
	_, err := o.a.admin().Do(ctx, admin.Operation{
		Action: "register", Terminal: string(e.id), Endpoints: []string{"https://localhost:1"},
		Slots: []admin.SlotAssignment{
			{Slot: sample.DataSlot, KeySet: string(sample.KeySet(e.scheme, sample.DataSlot))},
			{Slot: sample.PINSlot, KeySet: string(sample.KeySet(e.scheme, sample.PINSlot))},
		},
	})
	if refusal, ok := errors.AsType[*admin.Error](err); ok && refusal.Code == "TerminalExists" {
		return nil // an attempt before came through, and its answer was lost
	}
	return err
}

func (o *onboarding) code(ctx context.Context, e *enrolee) error {
	out, err := o.a.admin().Do(ctx, admin.Operation{Action: "code", Terminal: string(e.id)})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ticket, e.honest, e.others, e.lost = out.Ticket, 0, 0, 0
	e.codes++
	return nil
}

// enrol has the terminal enrol, while somebody shows the same code with another key.
func (o *onboarding) enrol(ctx context.Context, e *enrolee) error {
	if e.ticket == "" {
		if err := o.code(ctx, e); err != nil {
			return err
		}
	}
	var thief sync.WaitGroup
	if mathrand.IntN(3) == 0 {
		thief.Go(func() { o.secondKey(ctx, e, time.Duration(mathrand.IntN(200))*time.Millisecond) })
	}
	defer thief.Wait()
	ticket, err := enroll.ParseTicket([]byte(e.ticket))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	medium := terminal.OSFS(e.dir)
	sealer, err := sealerOf(medium)
	if err != nil {
		return err
	}
	at := o.a.either()
	o.inFlight.Add(1)
	err = terminal.Enroll(ctx, medium, sealer, terminal.EnrolOptions{
		URL: "https://" + at.doors["terminals"], TrustURL: "http://" + at.doors["publication"],
		Tenant: tenant, Terminal: e.id, Ticket: ticket, Timeout: 4 * time.Second,
	})
	o.inFlight.Add(-1)
	if errors.Is(err, terminal.ErrExists) {
		err = nil
	}
	o.count(err)
	if refusal, ok := errors.AsType[*enroll.Refusal](err); ok && refusal.Code == "CodeSpent" {
		thief.Wait() // before it is judged whether somebody was faster
		return o.again(ctx, e, err)
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.honest++
	return nil
}

// count counts an attempt that a kill may have ended: no answer came, or one that says that another service is away.
func (o *onboarding) count(err error) {
	if err == nil {
		return
	}
	asked := ""
	refusal, refused := errors.AsType[*enroll.Refusal](err)
	failed, away := errors.AsType[*url.Error](err)
	switch {
	case refused && refusal.Status >= http.StatusInternalServerError:
		asked = refusal.Code
	case away:
		u, err := url.Parse(failed.URL)
		if err != nil {
			return
		}
		asked = path.Base(u.Path)
	default:
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.interrupted[asked]++
}

// again has a new code fetched after a thief was faster with the old one: that the terminal is refused then is as it should
// be. Its folder is made anew, because a folder keeps to its code.
func (o *onboarding) again(ctx context.Context, e *enrolee, cause error) error {
	e.mu.Lock()
	stolen := e.others > 0 || e.lost > 0
	e.mu.Unlock()
	if !stolen {
		o.fault("terminal %s: its own code is spent and nobody else was certified: %v", e.id, cause)
	}
	if err := os.RemoveAll(e.dir); err != nil {
		return err
	}
	e.mu.Lock()
	e.ticket = "" // also when no answer comes: the authority may have a newer code by then, and takes the old one no more
	e.mu.Unlock()
	return errors.New("a new code is needed")
}

// secondKey shows the code of a terminal with another key than the terminal's. It returns the code of the refusal.
func (o *onboarding) secondKey(ctx context.Context, e *enrolee, wait time.Duration) string {
	select {
	case <-ctx.Done():
		return ""
	case <-time.After(wait): // to come at any point of the enrolment
	}
	e.mu.Lock()
	text := e.ticket
	e.mu.Unlock()
	ticket, err := enroll.ParseTicket([]byte(text))
	if err != nil {
		return ""
	}
	defer ticket.Wipe()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ""
	}
	csr, err := est.NewRequest(key, identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: string(e.id)})
	if err != nil {
		o.fault("second key of %s: %v", e.id, err)
		return ""
	}
	c, err := enroll.NewVisitor(enroll.Options{
		URL: "https://" + o.a.either().doors["terminals"], Tenant: tenant, Terminal: string(e.id), Timeout: 4 * time.Second,
	}, o.a.list)
	if err != nil {
		o.fault("second key of %s: %v", e.id, err)
		return ""
	}
	defer c.Close()
	_, err = c.Enroll(ctx, csr, ticket.Code)
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.ticket == text {
			e.others++
		}
		return "certified"
	}
	if refusal, ok := errors.AsType[*enroll.Refusal](err); ok && refusal.Status < http.StatusInternalServerError {
		return refusal.Code
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ticket == text {
		e.lost++ // it may have been certified all the same
	}
	return ""
}

// confirm reports the keys of an enrolled terminal as the decryption service does after a sign-in.
func (o *onboarding) confirm(ctx context.Context, e *enrolee) error {
	medium := terminal.OSFS(e.dir)
	sealer, err := sealerOf(medium)
	if err != nil {
		return err
	}
	status, err := terminal.Inspect(terminal.Options{FS: medium, Sealer: sealer})
	if err != nil {
		return err
	}
	var seen feed.Observations
	e.keys = nil
	for _, s := range status.Slots {
		seen.Confirmed = append(seen.Confirmed, feed.Confirmation{Terminal: e.id, Slot: s.Slot.Number, KeySet: s.Slot.KeySet, KeyID: s.Slot.KeyID})
		e.keys = append(e.keys, string(s.Slot.KeySet)+" "+s.Slot.KeyID.String())
	}
	if len(e.keys) != 2 {
		return fmt.Errorf("%d keys", len(e.keys))
	}
	_, _, err = feed.Client{URLs: []string{"https://" + o.a.either().doors["services"]}, HTTP: o.a.decrypt}.Observe(ctx, seen)
	return err
}

// renew has an enrolled terminal renew its certificate, at the authority where it has enrolled.
func (o *onboarding) renew(ctx context.Context, e *enrolee) error {
	medium := terminal.OSFS(e.dir)
	sealer, err := sealerOf(medium)
	if err != nil {
		return err
	}
	box, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer})
	if err != nil {
		return err
	}
	e.asked++
	o.inFlight.Add(1)
	err = box.Renew(ctx)
	o.inFlight.Add(-1)
	if e := box.Close(); err == nil {
		err = e
	}
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.interrupted["renewal"]++
	}
	return err
}

// run begins the load. What it returns ends it.
func (o *onboarding) run(t *testing.T, f figures) (stop func()) {
	return crowd(t, f.enrolling+4, o.work)
}

// round keeps a load up, kills one of the two at a random moment while enough is under way, and starts it again. Then
// second keys are tried on the codes that were redeemed last.
func (o *onboarding) round(t *testing.T, f figures, victim *service, binary string, planted ...string) int64 {
	t.Helper()
	return o.strike(t, f, time.Duration(mathrand.Int64N(int64(f.killAfter))), func() {
		victim.kill()
		victim.start(t, binary, planted...)
	})
}

// strike keeps a load up, and does something after so long, at the next moment when enough is under way.
func (o *onboarding) strike(t *testing.T, f figures, after time.Duration, blow func()) int64 {
	t.Helper()
	until := time.Now().Add(after)
	deadline := time.Now().Add(60 * time.Second)
	for {
		under := o.inFlight.Load()
		if time.Now().After(until) && under >= int64(f.enrolling) {
			blow()
			o.tryAgain(t.Context())
			return under
		}
		if time.Now().After(deadline) {
			t.Fatalf("never %d enrolments under way at once: %v\n%s%s", f.enrolling, o.faults, o.a.ra.log, o.a.keyd.log)
		}
		time.Sleep(200 * time.Microsecond) // where exactly is chance
	}
}

// tryAgain shows the last redeemed codes once more, with another key each.
func (o *onboarding) tryAgain(ctx context.Context) {
	o.mu.Lock()
	last := slices.Clone(o.done[max(0, len(o.done)-6):])
	o.mu.Unlock()
	var all sync.WaitGroup
	for _, e := range last {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			code := o.secondKey(ctx, e, 0)
			if code == "" {
				return
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.refusals[code]++
			o.tried = o.refusals["CodeSpent"]
		})
	}
	all.Wait()
}

// twice returns the codes that were accepted for two keys, and the key ids that two terminals hold.
func (o *onboarding) twice() (codes, keys []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	holder := make(map[string]keyset.TerminalID)
	for _, e := range o.done {
		e.mu.Lock()
		if e.honest > 0 && e.others > 0 || e.others > 1 {
			codes = append(codes, string(e.id))
		}
		e.mu.Unlock()
		for _, k := range e.keys {
			if other, ok := holder[k]; ok {
				keys = append(keys, fmt.Sprintf("%s and %s hold %s", other, e.id, k))
			}
			holder[k] = e.id
		}
	}
	return codes, keys
}

// TestOnboardingKill ends the registration authority and the key-distribution host with kill -9 at random points of
// enrolment and delivery, and judges by the terminals: no code was accepted for two keys, no key id delivered twice, and no
// terminal is stuck.
func TestOnboardingKill(t *testing.T) {
	f := chosen()
	a := newAuthority(t)
	a.start(t, binaries.shipped)
	o := newOnboarding(t, a, stuckAfter)
	stop := o.run(t, f)
	var under []int64
	kills := map[string]int{}
	for i := range f.enrolmentKills {
		victim := []*service{a.ra, a.keyd}[i%2]
		under = append(under, o.round(t, f, victim, binaries.shipped))
		kills[victim.program]++
	}
	stop()
	codes, keys := o.twice()
	t.Logf("kills: %v, enrolments under way at each: %d to %d", kills, slices.Min(under), slices.Max(under))
	t.Logf("terminals enrolled: %d, stuck: %d; codes accepted for two keys: %d; key ids delivered twice: %d", len(o.done), len(o.faults), len(codes), len(keys))
	slices.Sort(o.took)
	t.Logf("from registration to confirmed keys: half within %v, all within %v", o.took[len(o.took)/2].Round(time.Millisecond), o.took[len(o.took)-1].Round(time.Millisecond))
	t.Logf("attempts that a kill ended, by what was asked: %v", o.interrupted)
	t.Logf("second keys tried after a kill: %d, refused: %v", o.tried, o.refusals)
	for _, fault := range slices.Concat(o.faults, codes, keys) {
		t.Error(fault)
	}
	if len(under) < f.enrolmentKills || len(o.done) < f.enrolled || o.tried < f.enrolled {
		t.Errorf("too little: %d kills, %d terminals enrolled (want %d), %d second keys tried", len(under), len(o.done), f.enrolled, o.tried)
	}
	enrolments, deliveries := o.interrupted["simpleenroll"], o.interrupted["keys"]+o.interrupted["KeyDistributionUnavailable"]
	if enrolments < f.enrolmentKills/10 || deliveries < f.enrolmentKills/10 {
		t.Errorf("too little: kills ended %d enrolments and %d deliveries, want %d of each", enrolments, deliveries, f.enrolmentKills/10)
	}
	o.judgeRegistry(t)
	o.judgeIssuer(t)
	if found := o.judgeOrphans(t, binaries.shipped, findable, a.inLedger(t)); found.live > 0 {
		t.Errorf("of %d certificates that were signed and nobody was given, %d are not revoked", found.lost, found.live)
	} else {
		t.Logf("certificates that were signed and nobody was given: %d, all of them revoked", found.lost)
	}
	a.ra.stop(t)
	a.keyd.stop(t)
	a.verifyAudits(t)
}

// judgeRegistry holds what the registry says against what the terminals have.
func (o *onboarding) judgeRegistry(t *testing.T) {
	t.Helper()
	rows, err := o.a.admin().Terminals(t.Context())
	check(t, err)
	byName := make(map[string]admin.Terminal)
	for _, r := range rows {
		byName[r.Terminal] = r
	}
	for _, e := range o.done {
		row := byName[string(e.id)]
		var active []string
		for _, s := range row.Slots {
			for _, k := range s.Keys {
				if k.State == "active" {
					active = append(active, s.KeySet+" "+k.KeyID)
				}
			}
		}
		slices.Sort(active)
		want := slices.Sorted(slices.Values(e.keys))
		if row.Status != "active" || !slices.Equal(active, want) {
			t.Errorf("%s is %s with the keys %v, the terminal has %v", e.id, row.Status, active, want)
		}
	}
	certs, err := o.a.admin().Certificates(t.Context())
	check(t, err)
	issued := make(map[string]int)
	for _, c := range certs {
		if c.Role == identity.Terminal.String() && c.State == "current" {
			issued[c.Terminal]++
		}
	}
	for _, e := range o.done {
		if issued[string(e.id)] != 1 {
			t.Errorf("%s has %d current certificates", e.id, issued[string(e.id)])
		}
	}
}

// judgeIssuer counts the keys that the issuer signed for each terminal, whether anybody got the answer or not: no more than
// there were codes.
func (o *onboarding) judgeIssuer(t *testing.T) {
	t.Helper()
	signed := o.a.keysSigned(t)
	most := 0
	for _, e := range o.done {
		n := len(signed[identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: string(e.id)}.String()])
		if n < 1 || n > e.codes {
			t.Errorf("%s: certificates were signed for %d keys, %d codes were handed out", e.id, n, e.codes)
		}
		most = max(most, n)
	}
	t.Logf("keys that the issuer signed for a terminal: %d at most, never more than it had codes", most)
}

// verifyAudits runs latchkey audit verify on what the killed services left behind.
func (a *authority) verifyAudits(t *testing.T) {
	t.Helper()
	for _, log := range []struct{ database, pub string }{{"provisiond.db", "provisiond.pub"}, {"keyd.db", "keyd.pub"}} {
		said := verifyAudit(t, a.dir, log.database, log.pub)
		t.Logf("audit verify of %s: %s", log.database, strings.Join(strings.Fields(strings.SplitN(said, "root", 2)[0]), " "))
	}
}

// TestOnboardingKillPlanted shows that the same test catches an authority that reserves codes too late.
func TestOnboardingKillPlanted(t *testing.T) {
	f := chosen()
	a := newAuthority(t)
	a.keyd.start(t, binaries.shipped)
	a.ra.args = []string{"--keyd", "https://" + a.keyd.doors["listen"]}
	a.ra.start(t, binaries.planted, "bug.code-reserved-late")
	o := newOnboarding(t, a, 20*time.Second)
	stop := o.run(t, f)
	defer func() {
		stop()
		a.ra.kill()
		a.keyd.kill()
	}()
	most := 4 * f.plantedKills // the thief has to come within 20 ms of the terminal
	for i := range most {
		o.round(t, f, a.ra, binaries.planted, "bug.code-reserved-late")
		if codes, _ := o.twice(); len(codes) > 0 {
			t.Logf("planted bug.code-reserved-late caught after %d kills: %d codes accepted for two keys", i+1, len(codes))
			return
		}
	}
	t.Errorf("planted bug.code-reserved-late not caught in %d kills", most)
}
