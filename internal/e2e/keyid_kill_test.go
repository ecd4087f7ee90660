package e2e

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/deliveries"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// settleEvery is after how many answers the newest key of a slot is confirmed; keydist.MaxPending may wait.
const settleEvery = 4

// delivered is one answer of the key-distribution host that the terminal opened.
type delivered struct {
	set      keyset.ID
	id       dukpt.KeyID
	terminal keyset.TerminalID
	slot     uint8
	life     int64 // of the host: how many of its kills came before the order
}

// distribution is the load: the registration authority orders keys, with no word of the ids that it has seen.
type distribution struct {
	a         *authority
	client    *keydist.Client
	terminals ca.Issuer
	keydist   ca.Issuer

	up       atomic.Bool  // false between a kill and the next start, when nobody orders
	life     atomic.Int64 // kills so far
	boxes    atomic.Int64 // terminals so far
	inFlight atomic.Int64

	mu         sync.Mutex
	answers    []delivered
	unanswered int
	settled    int
	refusals   map[keydist.Code]int
	faults     []string
}

// newDistribution starts the key-distribution host alone. The test is its registration authority.
func newDistribution(t *testing.T, binary string, planted ...string) *distribution {
	t.Helper()
	o := &distribution{a: newAuthority(t), refusals: make(map[keydist.Code]int)}
	d, err := deploy.Open(o.a.dir, secret.From([]byte(passphraseText)))
	check(t, err)
	t.Cleanup(func() { _ = d.Close() }) // nothing is written by then
	o.terminals, err = d.Issuer(identity.TerminalCA)
	check(t, err)
	o.keydist, err = d.Issuer(identity.KeyDistCA)
	check(t, err)
	cert, err := d.ServiceCredential(deploy.ServiceRA)
	check(t, err)
	o.a.keyd.start(t, binary, planted...)
	o.client = keydist.NewClient("https://"+o.a.keyd.doors["listen"], o.a.as(t, cert, identity.KDH))
	o.up.Store(true)
	return o
}

// fault notes what must not be. A planted host makes many; a few tell enough.
func (o *distribution) fault(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.faults) < 20 {
		o.faults = append(o.faults, fmt.Sprintf(format, args...))
	}
}

// keybox is a terminal as far as keys are delivered to it.
type keybox struct {
	id             keyset.TerminalID
	scheme         dukpt.Scheme
	key            *ecdh.PrivateKey // of its agreement certificate
	tls, agreement []*x509.Certificate
}

// newBox has both issuers certify a terminal. One in eight has keys of TDES.
func (o *distribution) newBox(ctx context.Context) (*keybox, error) {
	n := o.boxes.Add(1)
	b := &keybox{id: keyset.TerminalID(fmt.Sprintf("T-%05d", n)), scheme: dukpt.AES}
	if n%8 == 0 {
		b.scheme = dukpt.TDES
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if b.tls, err = issue(ctx, o.terminals, identity.Terminal, b.id, key.Public()); err != nil {
		return nil, err
	}
	agreement, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if b.key, err = agreement.ECDH(); err != nil {
		return nil, err
	}
	b.agreement, err = issue(ctx, o.keydist, identity.Agreement, b.id, agreement.Public())
	return b, err
}

func issue(ctx context.Context, issuer ca.Issuer, role identity.Role, name keyset.TerminalID, key crypto.PublicKey) ([]*x509.Certificate, error) {
	return issuer.Issue(ctx, ca.Request{PublicKey: key, Identity: identity.Identity{Tenant: tenant, Role: role, Name: string(name)}})
}

func ders(chain []*x509.Certificate) (out [][]byte) {
	for _, c := range chain {
		out = append(out, c.Raw)
	}
	return out
}

// work orders keys for one terminal after the other until ctx ends.
func (o *distribution) work(ctx context.Context) {
	for ctx.Err() == nil {
		b, err := o.newBox(ctx)
		if err == nil {
			err = o.serve(ctx, b)
		}
		if err != nil && ctx.Err() == nil {
			o.fault("%v", err)
		}
	}
}

// serve orders keys for both slots of a terminal in turn, until the host has had enough of it. It returns an error that
// must not be.
func (o *distribution) serve(ctx context.Context, b *keybox) error {
	for n := 1; n <= 8*settleEvery && ctx.Err() == nil; n++ {
		slot := []uint8{sample.DataSlot, sample.PINSlot}[n%2]
		id, err := o.order(b, slot)
		refusal, ok := errors.AsType[*keydist.Refusal](err)
		if ok {
			o.mu.Lock()
			o.refusals[refusal.Code]++
			o.mu.Unlock()
			if refusal.Code == keydist.CodeTooManyPending || refusal.Code == keydist.CodeNoKeyID {
				return nil // with the next terminal
			}
		}
		if refusal != nil && !refusal.Unavailable() || errors.Is(err, remote.ErrDelivery) {
			return fmt.Errorf("%s, slot %d: %w", b.id, slot, err)
		}
		if err != nil {
			o.wait(ctx)
			continue
		}
		if n > 2*settleEvery-2 && n%(2*settleEvery) < 2 {
			if err := o.confirm(ctx, b, slot, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait lets a host that does not answer come back.
func (o *distribution) wait(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(time.Millisecond) // polling: the test ends ctx at the latest
		if o.up.Load() {
			return
		}
	}
}

// order has a key delivered, opens it as the terminal does, and notes its id.
func (o *distribution) order(b *keybox, slot uint8) (dukpt.KeyID, error) {
	order := remote.Order{
		Tenant: tenant, Terminal: b.id, Slot: slot, KeySet: sample.KeySet(b.scheme, slot), TLSChain: ders(b.tls), AgreementChain: ders(b.agreement),
	}
	_, _ = rand.Read(order.Nonce[:])    // cannot fail
	_, _ = rand.Read(order.Exporter[:]) // cannot fail
	life := o.life.Load()
	o.inFlight.Add(1)
	d, err := o.client.Deliver(context.Background(), order) // the client has a time-out
	o.inFlight.Add(-1)
	if err != nil {
		if _, ok := errors.AsType[*keydist.Refusal](err); !ok {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.unanswered++
		}
		return dukpt.KeyID{}, err
	}
	opened, err := remote.Open(d, remote.Binding{
		Tenant: tenant, Terminal: b.id, Slot: slot, TLS: b.tls[0], Agreement: b.agreement[0], Nonce: order.Nonce, Exporter: order.Exporter,
	}, b.key, remote.OpenOptions{Roots: o.a.trust.KeyDist, Now: time.Now(), Environment: keyset.Test, KeySet: order.KeySet})
	if err != nil {
		return dukpt.KeyID{}, err
	}
	defer opened.Wipe()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers = append(o.answers, delivered{order.KeySet, opened.Key.KeyID(), b.id, slot, life})
	return opened.Key.KeyID(), nil
}

// confirm says that a terminal holds the key, which retires those that were delivered before. No answer is no fault.
func (o *distribution) confirm(ctx context.Context, b *keybox, slot uint8, id dukpt.KeyID) error {
	err := o.client.Settle(ctx, remote.Settlement{
		Tenant: tenant, Terminal: b.id, Slot: slot, KeySet: sample.KeySet(b.scheme, slot), KeyID: id, State: keyset.SlotActive,
	})
	if refusal, ok := errors.AsType[*keydist.Refusal](err); ok && !refusal.Unavailable() {
		return fmt.Errorf("key id %v of %s was delivered, and is not confirmed: %w", id, b.id, refusal)
	}
	if err != nil {
		o.wait(ctx)
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled++
	return nil
}

// run begins the load. What it returns ends it.
func (o *distribution) run(t *testing.T, f figures) (stop func()) {
	return crowd(t, 2*f.ordering, o.work)
}

// round kills the host at a random moment while enough orders are under way, but not before it has delivered at least so many
// keys since it was started, and starts it again.
func (o *distribution) round(t *testing.T, f figures, least int, binary string, planted ...string) int64 {
	t.Helper()
	until := time.Now().Add(time.Duration(mathrand.Int64N(int64(f.killAfter))))
	deadline := time.Now().Add(30 * time.Second)
	for {
		under := o.inFlight.Load()
		if time.Now().After(until) && under >= int64(f.ordering) && o.since(o.life.Load()) >= least {
			o.up.Store(false)
			o.a.keyd.kill()
			o.life.Add(1)
			o.a.keyd.start(t, binary, planted...)
			o.up.Store(true)
			return under
		}
		if time.Now().After(deadline) {
			o.mu.Lock()
			defer o.mu.Unlock()
			t.Fatalf("never %d orders under way at once, or fewer than %d answered: %v\n%s", f.ordering, least, o.faults, o.a.keyd.log)
		}
		time.Sleep(50 * time.Microsecond) // where exactly is chance
	}
}

// twice returns the key ids that more than one answer carried, and how many of them a host gave out before and after a kill.
func (o *distribution) twice() (all []string, across int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	type name struct {
		set keyset.ID
		id  dukpt.KeyID
	}
	holders := make(map[name][]delivered)
	for _, d := range o.answers {
		holders[name{d.set, d.id}] = append(holders[name{d.set, d.id}], d)
	}
	for n, held := range holders {
		if len(held) < 2 {
			continue
		}
		var who []string
		for _, d := range held {
			who = append(who, fmt.Sprintf("%s/%d in life %d", d.terminal, d.slot, d.life))
		}
		if slices.ContainsFunc(held, func(d delivered) bool { return d.life != held[0].life }) {
			across++
		}
		all = append(all, fmt.Sprintf("%s %v was delivered to %s", n.set, n.id, strings.Join(who, ", ")))
	}
	slices.Sort(all)
	return all, across
}

// TestKeyIDKill ends the key-distribution host with kill -9 at random moments while it is given orders, and judges by what
// the terminals opened: no key id of a set was delivered twice. The database, read afterwards, has each of them as that of
// the terminal that opened it.
func TestKeyIDKill(t *testing.T) {
	f := chosen()
	o := newDistribution(t, binaries.shipped)
	stop := o.run(t, f)
	var under []int64
	for i := range f.keyIDKills { // every second life lasts until it has delivered enough; the others may be as short as they come
		under = append(under, o.round(t, f, (i+1)%2*2*f.delivered/f.keyIDKills, binaries.shipped))
	}
	stop()
	o.a.keyd.stop(t)
	twice, _ := o.twice()
	lives := make(map[int64]int)
	for _, d := range o.answers {
		lives[d.life]++
	}
	t.Logf("kills: %d, orders under way at each: %d to %d; orders without an answer: %d", len(under), slices.Min(under), slices.Max(under), o.unanswered)
	t.Logf("keys delivered and opened: %d, by %d lives of the host, to %d terminals; confirmed: %d; refused: %v; key ids delivered twice: %d",
		len(o.answers), len(lives), o.boxes.Load(), o.settled, o.refusals, len(twice))
	for _, fault := range slices.Concat(o.faults, twice) {
		t.Error(fault)
	}
	if len(under) < f.keyIDKills || len(o.answers) < f.delivered || o.unanswered < f.keyIDKills || len(lives) < f.keyIDKills/2 {
		t.Errorf("too little: %d kills, %d keys delivered (want %d), %d orders without an answer, in %d lives",
			len(under), len(o.answers), f.delivered, o.unanswered, len(lives))
	}
	o.judgeDatabase(t)
	verifyAudit(t, o.a.dir, "keyd.db", "keyd.pub")
}

// judgeDatabase looks for every delivered key id among those that the host says it gave out.
func (o *distribution) judgeDatabase(t *testing.T) {
	t.Helper()
	store, err := deliveries.Open(filepath.Join(o.a.dir, "keyd.db"), deliveries.Options{})
	check(t, err)
	defer func() { _ = store.Close() }() // only read
	check(t, store.View(t.Context(), func(tx keydist.Tx) error {
		for _, d := range o.answers {
			i, ok, err := tx.Issued(d.set, d.id)
			if err != nil {
				return err
			}
			if !ok || i.Terminal != d.terminal || i.Slot != d.slot {
				t.Errorf("%s %v was delivered to %s/%d, the database says %t, %s/%d", d.set, d.id, d.terminal, d.slot, ok, i.Terminal, i.Slot)
			}
		}
		return nil
	}))
}

// TestKeyIDKillPlanted shows that the same test catches a host that makes key ids durable too late: an id goes out again
// after a kill.
func TestKeyIDKillPlanted(t *testing.T) {
	const bug = "bug.key-id-allocated-late"
	f := chosen()
	o := newDistribution(t, binaries.planted, bug)
	stop := o.run(t, f)
	defer func() {
		stop()
		o.a.keyd.kill()
	}()
	for i := range f.plantedKills {
		o.round(t, f, 0, binaries.planted, bug)
		until := time.Now().Add(2 * time.Second)
		for o.since(int64(i)+1) < f.ordering && time.Now().Before(until) {
			time.Sleep(time.Millisecond) // polling: what the new life gives out first is what counts
		}
		if all, across := o.twice(); across > 0 {
			t.Logf("planted %s caught after %d kills: %d key ids delivered twice, %d of them before and after a kill", bug, i+1, len(all), across)
			return
		}
	}
	t.Errorf("planted %s not caught in %d kills: %v", bug, f.plantedKills, o.faults)
}

// since counts the answers of the host after so many kills.
func (o *distribution) since(kills int64) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.answers {
		if d.life >= kills {
			n++
		}
	}
	return n
}
