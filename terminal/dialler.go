package terminal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// stagger is how long one address is tried alone before the next one is tried beside it (RFC 8305, 8).
const stagger = 250 * time.Millisecond

// What has a dead peer noticed on a connection: data that nobody acknowledges within deadPeer, or on an idle one as many probes.
const (
	deadPeer      = 20 * time.Second
	probeAfter    = 10 * time.Second
	probeInterval = 5 * time.Second
	probes        = 3
)

// dialler makes TCP connections and knows those that are open. It is safe for concurrent use.
type dialler struct {
	mu   sync.Mutex
	last map[string][]netip.Addr // by host: what the name led to the last time
	open map[*tracked]struct{}
}

func newDialler() *dialler {
	return &dialler{last: make(map[string][]netip.Addr), open: make(map[*tracked]struct{})}
}

// tracked is a connection that its dialler knows until it is closed.
type tracked struct {
	net.Conn
	dialler *dialler
}

// Close closes the connection and forgets it.
func (c *tracked) Close() error {
	c.dialler.mu.Lock()
	delete(c.dialler.open, c)
	c.dialler.mu.Unlock()
	return c.Conn.Close()
}

// closeAll closes what is open, without the farewell of TLS, which a dead network would not take.
func (d *dialler) closeAll() {
	d.mu.Lock()
	var open []*tracked
	for c := range d.open {
		open = append(open, c)
	}
	d.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // what was on it is lost either way
	}
}

// connect makes a connection of the link to a host, TLS included.
func (l *Link) connect(ctx context.Context, o LinkOptions, host string, config *tls.Config) (net.Conn, error) {
	_, _, network := l.current()
	ctx, cancel := context.WithTimeoutCause(ctx, o.DialTimeout, errSilent)
	defer cancel()
	defer context.AfterFunc(network, cancel)()
	l.count(func(c *LinkCounters) { c.Dials++ })
	conn, err := l.dialler.secure(ctx, o, host, config)
	if err == nil && network.Err() != nil { // it may have been made before the change and counted after it
		_ = conn.Close()
		err = errNetworkChanged
	}
	if err == nil {
		return conn, nil
	}
	l.count(func(c *LinkCounters) { c.DialFailures++ })
	early, invalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case invalid && early.Reason == x509.Expired && o.Clock().Before(early.Cert.NotBefore):
		return nil, fmt.Errorf("%w: %w", ErrClock, err)
	case network.Err() != nil:
		return nil, errNetworkChanged
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connect to %s: %w", host, context.Cause(ctx))
	}
	return nil, err
}

// secure dials, and shakes hands.
func (d *dialler) secure(ctx context.Context, o LinkOptions, host string, config *tls.Config) (net.Conn, error) {
	raw, err := d.dial(ctx, o, host)
	if err != nil {
		return nil, err
	}
	conn := &tracked{raw, d}
	d.mu.Lock()
	d.open[conn] = struct{}{}
	d.mu.Unlock()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// dial connects to one of the addresses of a host: the first that takes it, each tried a while after the one before or as soon as
// that has failed.
func (d *dialler) dial(ctx context.Context, o LinkOptions, host string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	addrs, err := d.addresses(ctx, o, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		conn net.Conn
		err  error
	}
	results := make(chan outcome, len(addrs))
	started, failed := 0, 0
	start := func() {
		to := net.JoinHostPort(addrs[started].String(), port)
		started++
		go func() {
			conn, err := dialAddress(ctx, to)
			results <- outcome{conn, err}
		}()
	}
	start()
	next := time.NewTimer(stagger)
	defer next.Stop()
	for {
		select {
		case r := <-results:
			if r.err == nil {
				go func(others int) { // these end with ctx, which is over when this call returns
					for range others {
						if late := <-results; late.err == nil {
							_ = late.conn.Close()
						}
					}
				}(started - failed - 1)
				return r.conn, nil
			}
			err = r.err
			if failed++; failed == len(addrs) {
				return nil, err
			}
		case <-next.C:
		}
		if started < len(addrs) {
			start()
			next.Reset(stagger)
		}
	}
}

func dialAddress(ctx context.Context, to string) (net.Conn, error) {
	d := net.Dialer{
		Control: control,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probes,
		},
	}
	return d.DialContext(ctx, "tcp", to)
}

// addresses returns those of a host, the families in turn. A name that cannot be looked up now leads where it led the last time.
func (d *dialler) addresses(ctx context.Context, o LinkOptions, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	d.mu.Lock()
	last := d.last[name]
	d.mu.Unlock()
	if last != nil { // a resolver that hangs is not to have all of the time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.DialTimeout/2)
		defer cancel()
	}
	found, err := o.Resolve(ctx, name)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no address of %s", name)
	}
	if err != nil && last != nil {
		return last, nil
	}
	if err != nil {
		return nil, err
	}
	found = interleaved(found)
	d.mu.Lock()
	d.last[name] = found
	d.mu.Unlock()
	return found, nil
}

// interleaved returns addresses of the two families in turn, beginning with that of the first (RFC 8305, 4).
func interleaved(in []netip.Addr) (out []netip.Addr) {
	var first, other []netip.Addr
	for _, a := range in {
		if a = a.Unmap(); a.Is4() == in[0].Unmap().Is4() {
			first = append(first, a)
		} else {
			other = append(other, a)
		}
	}
	for len(first) > 0 || len(other) > 0 {
		if len(first) > 0 {
			out, first = append(out, first[0]), first[1:]
		}
		if len(other) > 0 {
			out, other = append(out, other[0]), other[1:]
		}
	}
	return out
}

func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
