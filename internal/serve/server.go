package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The time-outs of every server. A request is at most MaxBody long: who needs longer to send it is not a host.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = requestTimeout + 15*time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	drainTimeout      = 10 * time.Second
)

// Options say how Run serves. Handler and Logger are required.
type Options struct {
	Handler http.Handler
	TLS     *tls.Config // from package tls/tlsconf; nil serves plain HTTP, which is for an admin listener on loopback
	Logger  *slog.Logger
	// ConnState, if not nil, is told of the state of every connection, as by http.Server.
	ConnState func(net.Conn, http.ConnState)
	Drain     time.Duration // how long requests under way may take when ctx ends; zero is 10 s
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
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         o.ConnState,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
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
	drain := o.Drain
	if drain == 0 {
		drain = drainTimeout
	}
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
