package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

// sale is one honest message and what a rooted terminal would say under the same KSN.
type sale struct {
	id       string // terminal and sequence
	terminal *rogue.Terminal
	ordinal  uint32 // of the sale; the next one is for a resend of it
	ksn      string // of the MAC, which no two sales share
	digest   string // of raw
	amount   int64
	raw      []byte
	forged   []byte // another amount and sequence, which a ledger takes for a sale of its own, MACed as well

	tried    bool   // an attempt ended without an answer
	resend   []byte // raw inside a resend under a KSN of its own, nil while raw goes by itself
	answered bool
}

// forgedSequence is added to the sequence of a sale in what is forged from it.
const forgedSequence = 1_000_000

// makeSales makes n sales, of the terminals in turn. The first one of each terminal has the sequence given; a sale takes two
// sequences and ordinals.
func makeSales(t *testing.T, s *site, n int, first uint32) []*sale {
	t.Helper()
	digits := []byte("1234")
	number, err := pin.ParsePIN(digits)
	check(t, err)
	pan, err := pin.ParsePAN("4111111111111111")
	check(t, err)
	var out []*sale
	for i := range n {
		r := s.terminals[i%len(s.terminals)]
		ordinal := first + 2*uint32(i/len(s.terminals))
		amount := int64(1000 + i)
		out = append(out, makeSale(t, r, i%len(s.terminals), ordinal, amount, number, pan))
	}
	return out
}

func makeSale(t *testing.T, r *rogue.Terminal, terminal int, ordinal uint32, amount int64, number pin.PIN, pan pin.PAN) *sale {
	t.Helper()
	currency, err := message.ParseCurrency("EUR")
	check(t, err)
	p, err := r.Sale(uint64(ordinal), message.Amount{Minor: amount, Currency: currency, Exponent: 2},
		[]byte(";4111111111111111=29121010000000000?"), sample.DataSlot, sample.PINSlot, ordinal, number, pan)
	check(t, err)
	raw, err := r.Message(p, sample.DataSlot, ordinal)
	check(t, err)
	other := *p
	other.Sequence += forgedSequence
	other.Amount = &message.Amount{Minor: amount + 500_000, Currency: currency, Exponent: 2}
	forged, err := r.Message(&other, sample.DataSlot, ordinal)
	check(t, err)
	ksn, err := r.KSN(sample.DataSlot, ordinal)
	check(t, err)
	return &sale{
		id: fmt.Sprintf("T-%03d/%d", terminal, ordinal), terminal: r, ordinal: ordinal, ksn: ksn.String(),
		digest: message.DigestOf(raw).String(), amount: amount, raw: raw, forged: forged,
	}
}

// sequenceAfter returns the first sequence after n sales of all terminals.
func (s *site) sequenceAfter(n int) uint32 { return uint32(2*(n/len(s.terminals))) + 1 }

// wrap puts the message into a resend under a fresh KSN of its terminal.
func (s *sale) wrap() (err error) {
	ordinal := s.ordinal + 1
	p := &message.Payload{Type: message.Resend, BootCounter: 1, Sequence: uint64(ordinal), Inner: s.raw}
	s.resend, err = s.terminal.Message(p, sample.DataSlot, ordinal)
	return err
}

// message returns what an attempt sends.
func (s *sale) message() []byte {
	if s.resend != nil {
		return s.resend
	}
	return s.raw
}

// traffic is what two acquirers send, and what they saw.
type traffic struct {
	site     *site
	ledgers  map[string]*acquirer.Ledger
	queue    chan *sale
	inFlight atomic.Int64
	left     atomic.Int64 // sales without a recorded answer

	mu       sync.Mutex
	ksns     map[string]string         // digest -> KSN, of every message that was made
	released map[string]bool           // digests of messages released to anybody
	repeats  int                       // durable, and the answer was never sent
	resends  map[api.CounterStatus]int // sales settled by a message of type resend, by what the claim found
	answers  int
	refused  map[string]int // codes that attacks got
	honest   []string       // refusals of honest sales, and answers about another message: there must be none
	recent   []*sale        // released since the last start, the latest last
	lost     []*sale        // tried without an answer since the last start
}

func newTraffic(t *testing.T, s *site) *traffic {
	t.Helper()
	tr := &traffic{
		site: s, ledgers: make(map[string]*acquirer.Ledger), queue: make(chan *sale, 100_000),
		ksns: make(map[string]string), released: make(map[string]bool), resends: make(map[api.CounterStatus]int),
		refused: make(map[string]int),
	}
	for _, name := range acquirers {
		l, err := acquirer.OpenLedger(filepath.Join(t.TempDir(), name+".ledger"))
		check(t, err)
		t.Cleanup(func() { _ = l.Close() })
		tr.ledgers[name] = l
	}
	return tr
}

func (tr *traffic) add(sales []*sale) {
	tr.mu.Lock()
	for _, s := range sales {
		tr.ksns[s.digest], tr.ksns[message.DigestOf(s.forged).String()] = s.ksn, s.ksn
	}
	tr.mu.Unlock()
	tr.left.Add(int64(len(sales)))
	for _, s := range sales {
		tr.queue <- s
	}
}

// work sends sales from the queue through one acquirer until ctx ends. What fails goes back to the queue, where the other
// acquirer may find it.
func (tr *traffic) work(ctx context.Context, name string, c *api.Client) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-tr.queue:
			if !tr.send(ctx, name, c, s) {
				tr.queue <- s
				pause(ctx, 2*time.Millisecond)
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// send makes one attempt, and reports whether the sale is settled.
func (tr *traffic) send(ctx context.Context, name string, c *api.Client, s *sale) bool {
	tr.inFlight.Add(1)
	res, err := c.Transaction(ctx, api.TransactionRequest{Message: s.message()})
	tr.inFlight.Add(-1)
	if err != nil {
		tr.failed(s, err)
		return false
	}
	tr.release(s, res)
	if _, err := tr.ledgers[name].Book(entryOf(res)); err != nil {
		tr.failed(s, err)
		return true // the other acquirer's ledger decides: the judge will see
	}
	if res.RecordedResult == nil {
		if _, err := c.Answer(ctx, api.AnswerRequest{RequestDigest: res.RequestDigest, Result: api.Approved}); err != nil {
			tr.failed(s, err)
			return false
		}
	}
	tr.settle(s, res)
	return true
}

// entryOf is what an acquirer books, as examples/acquirer does: of a resend the message inside.
func entryOf(res *api.TransactionResponse) acquirer.Entry {
	return acquirer.Entry{
		Tenant: res.Tenant, Terminal: res.Terminal, BootCounter: res.BootCounter, Sequence: res.Sequence, Type: res.Type,
		Amount: res.Amount, Digest: digestOf(res), Result: api.Approved,
	}
}

// digestOf returns the digest of the message that an answer is about.
func digestOf(res *api.TransactionResponse) string {
	if res.OriginalDigest != "" {
		return res.OriginalDigest
	}
	return res.RequestDigest
}

func (tr *traffic) failed(s *sale, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	refusal, ok := errors.AsType[*api.Error](err)
	if ok && refusal.Status < 500 {
		tr.honest = append(tr.honest, s.id+": "+err.Error())
		return
	}
	if !s.tried {
		tr.lost = append(tr.lost, s)
	}
	s.tried = true
}

// release notes what was released, and counts answers that only a durable claim explains.
func (tr *traffic) release(s *sale, res *api.TransactionResponse) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if got := message.DigestOf(s.message()).String(); res.RequestDigest != got || digestOf(res) != s.digest {
		tr.honest = append(tr.honest, fmt.Sprintf("%s: answered about %s in %s", s.id, digestOf(res), res.RequestDigest))
	}
	if s.tried && !tr.released[s.digest] && res.CounterStatus == api.Resend {
		tr.repeats++
	}
	tr.released[s.digest] = true
	tr.recent = append(tr.recent, s)
}

func (tr *traffic) settle(s *sale, res *api.TransactionResponse) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if s.answered {
		return
	}
	s.answered = true
	tr.answers++
	tr.left.Add(-1)
	if s.resend != nil {
		tr.resends[res.CounterStatus]++
	}
}

// wrapLost puts every other sale that was tried without an answer into a resend. Nobody may be at work.
func (tr *traffic) wrapLost(t *testing.T) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for i, s := range tr.lost {
		if i%2 == 0 && !s.answered {
			check(t, s.wrap())
		}
	}
	tr.lost = nil
}

// attack sends the forged message of sales that were released before the last kill, and books what is released.
func (tr *traffic) attack(ctx context.Context, name string, c *api.Client, sales []*sale) {
	for _, s := range sales {
		res, err := c.Transaction(ctx, api.TransactionRequest{Message: s.forged})
		if err == nil {
			_, err = tr.ledgers[name].Book(entryOf(res))
		}
		tr.mu.Lock()
		if refusal, ok := errors.AsType[*api.Error](err); ok {
			tr.refused[refusal.Code]++
		} else if errors.Is(err, acquirer.ErrConflict) {
			tr.honest = append(tr.honest, s.id+": "+err.Error())
		}
		tr.mu.Unlock()
	}
}

// takeRecent returns what was released since it was last asked, the latest last and at most n.
func (tr *traffic) takeRecent(n int) []*sale {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	out := tr.recent
	tr.recent = nil
	return out[max(len(out)-n, 0):]
}

// doubles returns the KSNs under which the ledgers of both acquirers together have two contents, and what is booked that
// nobody made.
func (tr *traffic) doubles() (twice, unknown []string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	contents := make(map[string]string) // KSN -> digest
	for _, l := range tr.ledgers {
		for _, e := range l.Entries() {
			ksn, ok := tr.ksns[e.Digest]
			if !ok {
				unknown = append(unknown, fmt.Sprintf("%s/%d %s", e.Terminal, e.Sequence, e.Digest))
				continue
			}
			if before, ok := contents[ksn]; ok && before != e.Digest {
				twice = append(twice, ksn)
			}
			contents[ksn] = e.Digest
		}
	}
	slices.Sort(twice)
	return slices.Compact(twice), unknown
}

// round starts the service, attacks what was released before, lets the acquirers work and, if it kills, ends the service with
// kill -9 while enough is under way. It returns how many requests were.
func (tr *traffic) round(t *testing.T, f figures, binary string, kill bool, planted ...string) int64 {
	t.Helper()
	tr.wrapLost(t)
	d := tr.site.start(t, binary, planted...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	const bad = 1 // the acquirer with a rooted terminal
	attacker := tr.site.client(t, acquirers[bad], d.doors["listen"])
	recent := tr.takeRecent(400)
	latest := recent[max(len(recent)-64, 0):]
	tr.attack(ctx, acquirers[bad], attacker, latest) // before anybody repeats them: only what is durable refuses these
	for part := range slices.Chunk(recent[:len(recent)-len(latest)], len(recent)/4+1) {
		wg.Go(func() { tr.attack(ctx, acquirers[bad], attacker, part) })
	}
	for _, name := range acquirers {
		c := tr.site.client(t, name, d.doors["listen"])
		for range f.workers {
			wg.Go(func() { tr.work(ctx, name, c) })
		}
	}
	var under int64
	if kill {
		under = tr.waitAndKill(t, f, d)
	} else {
		tr.waitUntilSettled(t, d)
		tr.attack(ctx, acquirers[bad], attacker, tr.takeRecent(400))
		d.stop(t)
	}
	cancel()
	wg.Wait()
	return under
}

// waitAndKill waits a random while, then for a moment with enough requests under way, and kills.
func (tr *traffic) waitAndKill(t *testing.T, f figures, d *service) int64 {
	t.Helper()
	until := time.Now().Add(time.Duration(rand.Int64N(int64(f.killAfter)))) // where exactly is chance; that it is busy is not
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if under := tr.inFlight.Load(); time.Now().After(until) && under >= int64(f.inFlight) {
			d.kill()
			return under
		}
		time.Sleep(100 * time.Microsecond)
	}
	d.kill()
	t.Fatalf("never %d requests under way at once; %d sales left\n%s", f.inFlight, tr.left.Load(), d.log)
	return 0
}

func (tr *traffic) waitUntilSettled(t *testing.T, d *service) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for tr.left.Load() > 0 {
		if time.Now().After(deadline) {
			d.kill()
			t.Fatalf("%d sales are not answered: %v\n%s", tr.left.Load(), tr.honest, d.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const perRound = 4000 // more than a round can settle, so that it is busy to its end

// TestKill ends the decryption service with kill -9 again and again under the load of two acquirers, and judges by
// their ledgers: no KSN with two contents, no honest sale lost, and answers repeated where only the claim had survived.
func TestKill(t *testing.T) {
	f := chosen()
	s := newSite(t, 2*f.workers)
	tr := newTraffic(t, s)
	var sales []*sale
	var underWay []int64
	for i := range f.kills {
		if tr.left.Load() < perRound/2 {
			more := makeSales(t, s, perRound, s.sequenceAfter(len(sales)))
			sales = append(sales, more...)
			tr.add(more)
		}
		under := tr.round(t, f, binaries.shipped, true)
		underWay = append(underWay, under)
		if i == 0 {
			t.Logf("first kill with %d requests under way, %d answered before", under, tr.answers)
		}
	}
	tr.round(t, f, binaries.shipped, false)
	tr.judge(t, f, sales, underWay)
	t.Logf("audit verify:\n%s", verifyAudit(t, s.dir, "claims.db", "checkpoint.pub"))
}

func (tr *traffic) judge(t *testing.T, f figures, sales []*sale, underWay []int64) {
	t.Helper()
	twice, unknown := tr.doubles()
	for _, ksn := range twice {
		t.Errorf("KSN %s stands in the ledgers with two contents", ksn)
	}
	for _, e := range unknown {
		t.Errorf("in a ledger, and made by nobody: %s", e)
	}
	for _, h := range tr.honest {
		t.Errorf("honest sale refused or mistaken: %s", h)
	}
	booked := make(map[string]acquirer.Entry)
	for _, l := range tr.ledgers {
		for _, e := range l.Entries() {
			key := fmt.Sprintf("%s/%d", e.Terminal, e.Sequence)
			if before, ok := booked[key]; ok && (before.Digest != e.Digest || before.Amount.Minor != e.Amount.Minor) {
				t.Errorf("%s stands in the ledgers as %v and %v", key, before, e)
			}
			booked[key] = e
		}
	}
	lost := 0
	for _, s := range sales {
		if e, ok := booked[s.id]; !ok || e.Amount.Minor != s.amount || !s.answered {
			lost++
		}
	}
	attacks, resends := 0, 0
	for _, n := range tr.refused {
		attacks += n
	}
	for _, n := range tr.resends {
		resends += n
	}
	t.Logf("kills: %d, requests under way at each: %v", len(underWay), underWay)
	t.Logf("honest sales: %d, answered: %d, lost: %d; messages with two contents in the ledgers: %d", len(sales), tr.answers, lost, len(twice))
	t.Logf("claims durable whose answer was never sent, later answered RESEND: %d", tr.repeats)
	t.Logf("sales settled by a message of type resend under a fresh KSN: %d, of them %d claimed before the kill", resends, tr.resends[api.Resend])
	t.Logf("second contents tried after a kill: %d, refused: %v", attacks, tr.refused)
	if lost > 0 {
		t.Errorf("%d honest sales lost", lost)
	}
	if len(underWay) < f.kills || slices.Min(underWay) < int64(f.inFlight) {
		t.Errorf("too little: %d kills, under way %v", len(underWay), underWay)
	}
	if tr.repeats < f.lostAnswers {
		t.Errorf("too little: only %d durable claims whose answer was never sent, want %d", tr.repeats, f.lostAnswers)
	}
	if resends < f.resends || tr.resends[api.Resend] < f.lostAnswers {
		t.Errorf("too little: only %d sales settled by a resend, of them %d claimed before; want %d and %d",
			resends, tr.resends[api.Resend], f.resends, f.lostAnswers)
	}
	if attacks < 400 {
		t.Errorf("too little: %d second contents tried", attacks)
	}
}

// TestKillPlanted shows that the same test catches a service that answers before its claims are durable.
func TestKillPlanted(t *testing.T) {
	f := chosen()
	s := newSite(t, 2*f.workers)
	tr := newTraffic(t, s)
	made := 0
	for i := range f.plantedKills {
		if tr.left.Load() < perRound/2 {
			more := makeSales(t, s, perRound, s.sequenceAfter(made))
			made += len(more)
			tr.add(more)
		}
		tr.round(t, f, binaries.planted, true, "bug.claim-after-answer")
		if twice, _ := tr.doubles(); len(twice) > 0 {
			t.Logf("planted bug.claim-after-answer caught after %d kills: %d KSNs with two contents in the ledgers", i, len(twice))
			return
		}
	}
	t.Errorf("planted bug.claim-after-answer not caught in %d kills", f.plantedKills)
}
