package acquirer

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Listener returns the TLS configuration of the terminals' door: only terminals come in, and only those that the gate
// admits. With the registry feed the gate is a feed.Follower.
func Listener(cert *tlsconf.Credential, trust tlsconf.Trust, gate tlsconf.Gate) (*tls.Config, error) {
	return tlsconf.Server(tlsconf.ServerOptions{
		Credential: cert, Trust: trust, Accept: []identity.Role{identity.Terminal}, Gate: gate,
	})
}

// Serve answers terminals on a TLS listener until ctx ends, then lets those in flight finish. The gate, which is that of
// the listener's configuration, is asked again at each request, and about every open connection each second and whenever
// something comes on changed, which may be nil: a terminal that is revoked is out at once, in the middle of a request too.
func (h *Host) Serve(ctx context.Context, l net.Listener, gate tlsconf.Gate, changed <-chan struct{}) error {
	var open tlsconf.Connections
	srv := &http.Server{
		Handler: open.Guard(gate, h.Handler()), ConnState: open.ConnState, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(h.log().Handler(), slog.LevelInfo), // handshakes of whoever is refused, above all
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err := srv.Shutdown(last)
			<-failed
			return err
		case <-changed:
		case <-look.C:
		}
		if n := open.Cut(gate); n > 0 {
			h.log().Info("connections cut", "count", n)
		}
	}
}
