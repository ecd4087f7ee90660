package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// The time-outs of a server whose Options say nothing else. A handshake of TLS has as long as a header. So a peer that does not get on
// is given up after 5 s in its handshake, 5 s in its header and 15 s in its body, whatever it sends meanwhile.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = requestTimeout + 15*time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	drainTimeout      = 10 * time.Second
)

// connections is how many may be open at a listener at once.
const connections = 4096

// Options say how Run serves. Handler and Logger are required.
type Options struct {
	Handler http.Handler
	TLS     *tls.Config // from package tls/tlsconf; nil serves plain HTTP, which is for an admin listener on loopback
	Logger  *slog.Logger
	// ConnState, if not nil, is told of the state of every connection, as by http.Server.
	ConnState func(net.Conn, http.ConnState)
	Drain     time.Duration // how long requests under way may take when ctx ends; zero is 10 s
	// Idle is how long a connection may wait for its next request; zero is 2 min. A listener that strangers may connect to
	// has little.
	Idle time.Duration
	// Connections is how many may be open at once; zero is 4096. Those beyond wait to be accepted, so that a crowd never
	// takes the descriptors that the database needs.
	Connections int
	// PerSource is how many of them one source may have, as told by Network; zero is all of them. One more is closed at once. A
	// listener that strangers may connect to has less than all: nobody is to take the places of everybody.
	PerSource int
	// Crowded is told of each connection that PerSource closes, and the source; nil: nobody is. It keeps the listener waiting.
	Crowded func(source string)
}

// Run serves on the listener until ctx ends. Then it closes the listener, lets the requests under way finish within
// Drain, and cuts off what is left. It owns the listener. It returns nil after an orderly end, and an error when the
// listener failed or requests had to be cut off.
func Run(ctx context.Context, ln net.Listener, o Options) error {
	srv := &http.Server{
		Handler:           o.Handler,
		TLSConfig:         o.TLS,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       cmp.Or(o.Idle, idleTimeout),
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         o.ConnState,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	if o.PerSource > 0 {
		ln = newCrowd(ln, o.PerSource, o.Crowded) // before the places are counted: who is sent away takes none
	}
	ln = netutil.LimitListener(ln, cmp.Or(o.Connections, connections))
	failed := make(chan error, 1)
	go func() {
		if o.TLS == nil {
			failed <- srv.Serve(ln)
			return
		}
		failed <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	drain := cmp.Or(o.Drain, drainTimeout)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := srv.Shutdown(end)
	if err != nil {
		err = fmt.Errorf("serve: requests cut off after %v: %w", drain, errors.Join(err, srv.Close()))
	}
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve: %w", e))
	}
	return err
}
