package postgres

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
)

// proxy stands between a store and its server, and cuts connections.
type proxy struct {
	listener net.Listener
	to       string
	// dropRequests and dropAnswers cut a connection at the next bytes from the store, or from the server.
	dropRequests, dropAnswers atomic.Bool
	wg                        sync.WaitGroup
	mu                        sync.Mutex
	conns                     []net.Conn
}

func newProxy(t testing.TB, c *pgtest.Cluster) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: ln, to: fmt.Sprintf("127.0.0.1:%d", c.Port)}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) port() uint16 { return uint16(p.listener.Addr().(*net.TCPAddr).Port) }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Go(func() { pipe(server, client, &p.dropRequests) })
		p.wg.Go(func() { pipe(client, server, &p.dropAnswers) })
	}
}

// pipe moves bytes until one end closes, or cut is set when there are some: they are lost, with both connections.
func pipe(to, from net.Conn, cut *atomic.Bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && cut.Swap(false) {
			return
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestUnknownOutcome loses the connection at every exchange of a claim: on the way to the server, and on the way back. Whatever
// the caller is told is what the database holds. The store logs in with a password from a file, over TCP.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t)
	o := inFolder(t, t.TempDir())
	p := newProxy(t, c)
	direct := o
	o.Servers = []Server{{Host: "127.0.0.1", Port: p.port()}}
	o.PasswordFile = passwordFile(t, c.Password)
	s := open(t, o)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := uint32(0)
	for _, cut := range []struct {
		name     string
		flag     *atomic.Bool
		exchange int // 1: what is read; 2: what is written and committed
	}{
		{"the question", &p.dropRequests, 1}, {"the reading", &p.dropAnswers, 1},
		{"the commit", &p.dropRequests, 2}, {"its answer", &p.dropAnswers, 2},
	} {
		for range 3 {
			n++
			set := claimSet(fmt.Sprint(n), 1, n)
			before := s.Stats()
			out, err := s.claimAnd(t, set, func() {
				if cut.exchange == 2 {
					cut.flag.Store(true)
				}
			}, func() {
				if cut.exchange == 1 {
					cut.flag.Store(true)
				}
			})
			if cut.exchange == 2 {
				if after := s.Stats(); err != nil || out.Verdict != decrypt.Fresh || after.Resolved != before.Resolved+1 {
					t.Errorf("%s: %v %v, %+v, want FRESH by looking it up", cut.name, out.Verdict, err, after)
				}
				continue
			}
			if !isCode(err, decrypt.CodeStoreUnavailable) {
				t.Errorf("%s: %v, want %s", cut.name, err, decrypt.CodeStoreUnavailable)
			}
			recovers(t, s)
			if after := s.Stats(); after.Connections != before.Connections+1 {
				t.Errorf("%s: %+v, want one connection more than %d", cut.name, after, before.Connections)
			}
			if out, err := s.Claim(t.Context(), set); err != nil || out.Verdict != decrypt.Fresh {
				t.Errorf("%s, and again: %v %v, want FRESH", cut.name, out.Verdict, err)
			}
		}
	}
	held := dump(t, direct)
	if len(held.Requests) != int(n) || len(held.Leaves) != int(n) {
		t.Errorf("%d messages, %d records, want %d of each", len(held.Requests), len(held.Leaves), n)
	}
	for n := range n {
		if out, err := s.Claim(t.Context(), claimSet(fmt.Sprint(n+1), 1, n+1)); err != nil || out.Verdict != decrypt.Resend {
			t.Errorf("claim %d again: %v %v, want RESEND", n+1, out.Verdict, err)
		}
	}
}

// claimAnd claims, and calls judged while the claim is judged: between what is read and what is written; and before that first.
func (s *Store) claimAnd(t testing.TB, set decrypt.ClaimSet, judged, first func()) (decrypt.ClaimOutcome, error) {
	t.Helper()
	first()
	var once sync.Once
	return decide(t.Context(), s, needsOfClaims(&set), func(l *ledger) (decrypt.ClaimOutcome, error) {
		once.Do(judged)
		return l.claim(&set)
	})
}

// TestUnknownOutcomeDeadServer kills the server while claims are under way, again and again: what was told is what it holds when it
// is back, and what was told to nobody is answered alike.
func TestUnknownOutcomeDeadServer(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t)
	o := options(c, c.Database(t), "latchkey", "DECRYPT-1")
	o.Patience = 2 * time.Second
	migrate(t, o)
	s := open(t, o)
	var mu sync.Mutex
	told := make(map[uint32]decrypt.Verdict)
	var stop atomic.Bool
	var next atomic.Uint32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				n := next.Add(1)
				for !stop.Load() {
					out, err := s.Claim(t.Context(), claimSet(fmt.Sprint(n), 1, n))
					if err == nil {
						mu.Lock()
						told[n] = out.Verdict
						mu.Unlock()
						break
					}
					if !isCode(err, decrypt.CodeStoreUnavailable) {
						t.Errorf("claim %d: %v", n, err)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	for range 3 {
		until(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(told) > 20 })
		c.Kill()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		recovers(t, s)
	}
	stop.Store(true)
	wg.Wait()
	held, resends := dump(t, o), 0
	for n, v := range told {
		set := claimSet(fmt.Sprint(n), 1, n)
		if _, ok := held.Requests[set.Digest]; !ok {
			t.Errorf("claim %d was told %v, and is not there", n, v)
		}
		if v == decrypt.Resend {
			resends++
		}
	}
	t.Logf("%d claims told, %d of them RESEND; %+v", len(told), resends, s.Stats())
}

// until waits for a condition.
func until(t testing.TB, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}
