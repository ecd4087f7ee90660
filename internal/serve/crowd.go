package serve

import (
	"net"
	"net/netip"
	"sync"
)

// Network returns what counts as one source of an address, with or without a port: the address itself, or of IPv6 the network of
// 64 bits that one customer has. What is no address is the source "unknown".
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return "unknown"
		}
		ip = at.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return network.String()
}

// crowd is a listener that closes, unanswered, the connections of a source that has as many open as it may: whoever opens more
// than that and says nothing keeps nobody else waiting. It remembers the sources of open connections only.
type crowd struct {
	net.Listener
	most int // of one source
	told func(source string)

	mu   sync.Mutex
	open map[string]int
}

func newCrowd(ln net.Listener, most int, told func(source string)) *crowd {
	if told == nil {
		told = func(string) {}
	}
	return &crowd{Listener: ln, most: most, told: told, open: make(map[string]int)}
}

// Accept returns the next connection of a source that may have one more.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := Network(conn.RemoteAddr().String())
		if c.enter(source) {
			return &counted{Conn: conn, leave: sync.OnceFunc(func() { c.leave(source) })}, nil
		}
		_ = conn.Close() // nobody waits for what this says
		c.told(source)
	}
}

func (c *crowd) enter(source string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[source] >= c.most {
		return false
	}
	c.open[source]++
	return true
}

func (c *crowd) leave(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[source]--; c.open[source] == 0 {
		delete(c.open, source)
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
