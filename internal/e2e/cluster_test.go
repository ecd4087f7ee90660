package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
)

// replicas are the decryption services of a cluster.
const replicas = 2

// cluster is decryption services that share a PostgreSQL with a synchronous standby.
type cluster struct {
	*site
	database         string
	primary, standby *pgtest.Cluster
	named            int // standbys so far: each has a name of its own
	services         [replicas]*replica
	keepers          sync.WaitGroup
}

// replica is one service that is started again whenever it ends.
type replica struct {
	*service
	mu    sync.Mutex
	up    bool // it may be killed
	kills chan struct{}
}

func newCluster(t *testing.T, s *site) *cluster {
	t.Helper()
	c := &cluster{site: s, primary: pgtest.Own(t)}
	c.database = c.primary.Database(t)
	c.follow(t)
	c.configure(t)
	c.migrate(t)
	return c
}

// follow gives the primary a standby that commits wait for.
func (c *cluster) follow(t *testing.T) {
	t.Helper()
	c.named++
	name := fmt.Sprint("standby-", c.named)
	c.standby = c.primary.Standby(t, name)
	c.primary.SynchronizeWith(t, name)
}

// configure writes the configuration of each service, with the servers that there are now.
func (c *cluster) configure(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(c.config)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(c.dir, "database.password"), []byte(c.primary.Password+"\n"), 0o600))
	for i := range replicas {
		own := strings.Replace(string(text), "database: claims.db\n", fmt.Sprintf("instance: DECRYPT-%d\ncheckpoint-file: audit/checkpoint-%[1]d\n"+
			"postgres:\n  servers: ['127.0.0.1:%d', '127.0.0.1:%d']\n  name: %s\n  user: %s\n  password-file: database.password\n  standby: required\n  patience: 2s\n",
			i+1, c.primary.Port, c.standby.Port, c.database, pgtest.Superuser), 1)
		check(t, os.WriteFile(c.configOf(i), []byte(own), 0o600))
	}
}

func (c *cluster) configOf(i int) string {
	return filepath.Join(c.dir, fmt.Sprintf("replica-%d.yaml", i+1))
}

func (c *cluster) migrate(t *testing.T) {
	t.Helper()
	if _, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "store", "migrate", "--config", c.configOf(0)); code != 0 {
		t.Fatalf("store migrate ends with %d: %s", code, errs)
	}
}

// start starts the services, and has them started again whenever they were killed, until ctx ends. A service that is started while
// there is no database ends, as it would under any supervisor, which tries again.
func (c *cluster) start(ctx context.Context, t *testing.T, binary string, planted ...string) {
	t.Helper()
	for i := range c.services {
		r := &replica{service: newService("latchkey-decryptd", c.configOf(i), "listen", "admin"), kills: make(chan struct{})}
		r.service.start(t, binary, planted...)
		r.up = true
		c.services[i] = r
		c.keepers.Go(func() { r.keep(ctx, binary, planted...) })
	}
}

func (r *replica) keep(ctx context.Context, binary string, planted ...string) {
	for {
		select {
		case <-ctx.Done():
			r.kill()
			return
		case <-r.kills:
		}
		for ctx.Err() == nil {
			if err := r.attempt(binary, planted...); err == nil {
				r.set(true)
				break
			}
			pause(ctx, 100*time.Millisecond)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

func (r *replica) set(up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = up
}

// killNow kills the service and has it started again; it reports whether it was up.
func (r *replica) killNow() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.up {
		return false
	}
	r.up = false
	r.kill()
	r.kills <- struct{}{}
	return true
}

// failOver has the standby take the place of the primary, which is dead, or is cut off and does not know it. Then it gets a standby of
// its own, and the services are told: they are killed, and find both in their configuration.
func (c *cluster) failOver(t *testing.T, dead bool) {
	t.Helper()
	old := c.primary
	if dead {
		old.Kill()
	}
	c.standby.Promote(t)
	if !dead {
		time.Sleep(time.Second) // services are at the old one still, which has no standby any more
		old.Kill()
	}
	c.primary = c.standby
	c.follow(t)
	c.configure(t)
	old.Remove()
	for _, r := range c.services {
		for !r.killNow() {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// rivals are two contents of one KSN, sent at once, one to each service.
type rivals struct {
	traffic *traffic
	clients map[string][replicas]*api.Client
	queue   chan *sale
	settled atomic.Int64
	mu      sync.Mutex
	wrong   []string
	codes   map[string]int // of the refusals
}

// work has sales of the queue contested until ctx ends.
func (rv *rivals) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-rv.queue:
			rv.contest(ctx, s)
		}
	}
}

// contest sends both contents until both have an answer: one is released, and the other one is refused.
func (rv *rivals) contest(ctx context.Context, s *sale) {
	var released atomic.Int64
	var wg sync.WaitGroup
	for i, raw := range [][]byte{s.raw, s.forged} {
		wg.Go(func() {
			for at := i; ctx.Err() == nil; at++ {
				res, err := rv.clients[acquirers[i]][at%replicas].Transaction(ctx, api.TransactionRequest{Message: raw})
				if err == nil {
					_, err = rv.traffic.ledgers[acquirers[i]].Book(entryOf(res))
					rv.check(s, err)
					released.Add(1)
					return
				}
				if code, ok := refusal(err); ok {
					rv.count(code)
					return
				}
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	rv.settled.Add(1)
	if n := released.Load(); n != 1 {
		rv.check(s, fmt.Errorf("%d contents released of two", n))
	}
}

func (rv *rivals) check(s *sale, err error) {
	if err == nil {
		return
	}
	rv.mu.Lock()
	defer rv.mu.Unlock()
	rv.wrong = append(rv.wrong, s.id+": "+err.Error())
}

func (rv *rivals) count(code string) {
	rv.mu.Lock()
	defer rv.mu.Unlock()
	rv.codes[code]++
}

// wear is one run of a cluster under load.
type wear struct {
	*cluster
	traffic *traffic
	rivals  *rivals
	clients map[string][replicas]*api.Client
	random  *rand.Rand
	sales   []*sale
	made    int // of all sales, also of those that are contested
	stop    func()
}

// begin starts services and load. What is made begins after the sequences of those before.
func (c *cluster) begin(t *testing.T, f figures, seed uint64, made int, binary string, planted ...string) *wear {
	t.Helper()
	tr := newTraffic(t, c.site)
	w := &wear{cluster: c, traffic: tr, random: rand.New(rand.NewPCG(seed, seed)), made: made, clients: make(map[string][replicas]*api.Client)}
	ctx, cancel := context.WithCancel(t.Context())
	c.start(ctx, t, binary, planted...)
	for _, name := range acquirers {
		var to [replicas]*api.Client
		for i, r := range c.services {
			to[i] = c.client(t, name, r.doors["listen"])
		}
		w.clients[name] = to
	}
	w.rivals = &rivals{traffic: tr, clients: w.clients, queue: make(chan *sale, 100_000), codes: make(map[string]int)}
	w.supply(t)
	var load sync.WaitGroup
	for i := range f.workers {
		for at, name := range acquirers {
			worker := rand.New(rand.NewPCG(seed+1, uint64(2*i+at)))
			load.Go(func() { w.work(ctx, name, worker) })
		}
	}
	for range 4 {
		load.Go(func() { w.rivals.work(ctx) })
	}
	for i := range replicas {
		load.Go(func() { w.attack(ctx, i) })
	}
	w.stop = func() {
		cancel()
		load.Wait()
		c.keepers.Wait()
	}
	return w
}

// supply makes sure that there is work: of ten sales, one is contested.
func (w *wear) supply(t *testing.T) {
	t.Helper()
	if w.traffic.left.Load() > 1000 {
		return
	}
	more := makeSales(t, w.site, 60*len(w.terminals), w.sequenceAfter(w.made)) // as many of each terminal
	w.made += len(more)
	var honest []*sale
	for i, s := range more {
		if i%10 != 9 {
			honest = append(honest, s)
			continue
		}
		w.traffic.know(s)
		w.rivals.queue <- s
	}
	w.sales = append(w.sales, honest...)
	w.traffic.add(honest)
}

// work sends sales from the queue to either service. Of those that get no answer, some go on inside a resend.
func (w *wear) work(ctx context.Context, name string, random *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-w.traffic.queue:
			if w.traffic.send(ctx, name, w.clients[name][random.IntN(replicas)], s) {
				continue
			}
			if s.resend == nil && random.IntN(40) == 0 {
				if err := s.wrap(); err != nil {
					panic(err) // it cannot fail
				}
			}
			w.traffic.queue <- s
			pause(ctx, 5*time.Millisecond)
		}
	}
}

// attack sends what was forged from the sales released last to the other services, again and again.
func (w *wear) attack(ctx context.Context, i int) {
	for ctx.Err() == nil {
		if recent := w.traffic.takeRecent(16); len(recent) > 0 {
			w.traffic.attack(ctx, acquirers[i%len(acquirers)], w.clients[acquirers[i%len(acquirers)]][i], recent)
		}
		pause(ctx, 2*time.Millisecond)
	}
}

// busy waits for a moment with enough messages under way, besides the answers to others, after some answers since the last time.
func (w *wear) busy(t *testing.T, f figures, answers int) (under int64, now int) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		w.supply(t)
		under, now = w.traffic.inFlight.Load(), w.traffic.count()
		if under >= int64(f.inFlight/2) && now >= answers+10 {
			return under, now
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests under way, %d answers after %d, %d sales left\n%s\n%s\n%s", under, now, answers, w.traffic.left.Load(),
				tail(w.services[0].log), tail(w.services[1].log), w.primary.Log())
		}
	}
}

// tail is the end of a log.
func tail(l *lines) string {
	text := l.String()
	return text[max(len(text)-4000, 0):]
}
