package faults

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"
)

// NetFault is what befalls the network between a terminal and a server.
type NetFault uint8

// The faults of a network.
const (
	Sound    NetFault = iota // everything passes
	Cut                      // connections are closed, new ones too
	Reset                    // they are reset
	Stall                    // they stand, and nothing passes; when it is over what was sent goes on
	HalfOpen                 // the far end is gone, and the near end does not hear of it
	LostUp                   // what the terminal sends is lost, as in a black hole
	LostDown                 // what the server sends is lost: it has heard the terminal
	Slow                     // everything passes, a few bytes at a time
	Corrupt                  // a bit is flipped in what passes
)

var netFaults = []string{"sound", "cut", "reset", "stall", "half-open", "black hole up", "black hole down", "slow", "corrupt"}

// NetFaults are all faults but Sound.
var NetFaults = []NetFault{Cut, Reset, Stall, HalfOpen, LostUp, LostDown, Slow, Corrupt}

// String names the fault.
func (f NetFault) String() string {
	if int(f) < len(netFaults) {
		return netFaults[f]
	}
	return fmt.Sprintf("NetFault(%d)", uint8(f))
}

// Proxy is a network between a terminal and a server, with faults. A connection that has lost bytes stays lost when the fault is
// over, as TCP would have it. It is safe for concurrent use.
type Proxy struct {
	URL string // where it listens, https://

	listener net.Listener
	mu       sync.Mutex
	over     *sync.Cond // of mu: the fault has changed
	fault    NetFault
	r        *rand.Rand
	pipes    map[*pipe]struct{}
	arrivals []time.Time // when each connection came, also one that was cut at once
}

// pipe is one connection through the proxy.
type pipe struct {
	near, far *net.TCPConn
	lost      bool // bytes are missing: no more pass
}

// Listen starts a proxy to a server, given as a URL. Its chances are drawn by seed. The caller closes it.
func Listen(seed uint64, server string) (*Proxy, error) {
	to, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	if to.Port() == "" {
		to.Host = net.JoinHostPort(to.Hostname(), "443")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	p := &Proxy{URL: "https://" + l.Addr().String(), listener: l, r: rand.New(rand.NewPCG(seed, 1)), pipes: make(map[*pipe]struct{})}
	p.over = sync.NewCond(&p.mu)
	go func() { // ends with the listener
		for {
			near, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // too many at once, perhaps
				time.Sleep(time.Millisecond)
				continue
			}
			go p.serve(near.(*net.TCPConn), to.Host)
		}
	}()
	return p, nil
}

// Close ends the proxy, and every connection through it.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Set(Cut)
	return err
}

// Set changes the fault, for connections that are open, too.
func (p *Proxy) Set(f NetFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	for c := range p.pipes {
		switch f {
		case Cut, Reset:
			c.end(f)
			delete(p.pipes, c)
		case HalfOpen:
			_ = c.far.Close()
			c.lost = true
		}
	}
	p.over.Broadcast()
}

// Connections returns how many were made through the proxy.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.arrivals)
}

// Arrivals returns when the connections came that were made through the proxy, or would have been but for a fault, from a time on.
func (p *Proxy) Arrivals(from time.Time) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(p.arrivals, from, time.Time.Compare)
	return slices.Clone(p.arrivals[i:])
}

func (c *pipe) end(f NetFault) {
	if f == Reset {
		_ = c.near.SetLinger(0)
	}
	_ = c.near.Close()
	if c.far != nil {
		_ = c.far.Close()
	}
}

func (p *Proxy) serve(near *net.TCPConn, server string) {
	c := &pipe{near: near}
	p.mu.Lock()
	p.arrivals = append(p.arrivals, time.Now())
	f := p.fault
	p.mu.Unlock()
	if f == Cut || f == Reset {
		c.end(f)
		return
	}
	far, err := net.Dial("tcp", server)
	if err != nil {
		_ = near.Close()
		return
	}
	c.far = far.(*net.TCPConn)
	p.mu.Lock()
	p.pipes[c] = struct{}{}
	if f == HalfOpen {
		c.lost = true
	}
	p.mu.Unlock()
	go p.pump(c, c.near, c.far, LostUp)
	p.pump(c, c.far, c.near, LostDown)
}

// pump moves bytes one way; lost is the fault that loses them on this way.
func (p *Proxy) pump(c *pipe, from, to *net.TCPConn, lost NetFault) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if n > 0 && !p.pass(c, to, b[:n], lost) {
			return
		}
		if err != nil {
			break
		}
	}
	p.mu.Lock()
	quiet := c.lost || p.fault == lost || p.fault == Stall || p.fault == HalfOpen
	p.mu.Unlock()
	if quiet { // the end of a connection does not pass either
		_, _ = io.Copy(io.Discard, from)
		return
	}
	c.end(Cut)
}

// pass has one piece suffer what there is to suffer, and reports whether the pipe is still worth reading from.
func (p *Proxy) pass(c *pipe, to *net.TCPConn, b []byte, lost NetFault) bool {
	p.mu.Lock()
	for p.fault == Stall {
		p.over.Wait()
	}
	f := p.fault
	if f == lost || f == HalfOpen {
		c.lost = true
	}
	if c.lost {
		p.mu.Unlock()
		return true // read and forgotten
	}
	if f == Corrupt {
		b[p.r.IntN(len(b))] ^= 1 << p.r.IntN(8)
	}
	step := len(b)
	if f == Slow {
		step = 1 + p.r.IntN(64)
	}
	p.mu.Unlock()
	for len(b) > 0 {
		n := min(step, len(b))
		if _, err := to.Write(b[:n]); err != nil {
			return false
		}
		if b = b[n:]; f == Slow {
			time.Sleep(time.Millisecond) // what makes it slow: a wait for nothing
		}
	}
	return true
}
