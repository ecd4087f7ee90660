package decrypt

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// How long a sign-in waits for the registration authority: for its answer, and then for the feed to bring what it answered.
const (
	confirmTimeout = 3 * time.Second
	feedTimeout    = 3 * time.Second
)

// registry is the registration authority as this node knows it: the feed that it follows, and what it tells back.
type registry struct {
	follower *feed.Follower
	client   feed.Client
	marks    *marks
	alarm    chan struct{} // one waits in it when the store has evidence that the authority does not know of
}

var _ decrypt.Registry = (*registry)(nil)

// newRegistry makes what follows the authority of a configuration. It connects to nobody yet.
func newRegistry(c Config, r RegistryConfig, own *tlsconf.Credential, trust tlsconf.Trust, log *slog.Logger) (*registry, error) {
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: own, Trust: trust, ServerRole: identity.RA,
		Gate: tlsconf.OpenGate(), // what it says is signed besides, by a certificate that is valid now
	})
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 3 * time.Second}
	client := &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute,
	}} // how long answers may take is for package feed to say
	cache := ""
	if r.Cache != "" {
		cache = daemon.Path(c.Folder, r.Cache)
	}
	follower, err := feed.New(feed.Options{
		URLs: r.URLs, Client: client, Services: trust.Services, Tenant: keyset.TenantID(c.Tenant),
		Stale: time.Duration(r.StaleAfter), Logger: log, Cache: cache,
	})
	if err != nil {
		return nil, err
	}
	return &registry{follower: follower, client: feed.Client{URLs: r.URLs, HTTP: client}, marks: newMarks(), alarm: make(chan struct{}, 1)}, nil
}

// close ends the connections to the authority.
func (r *registry) close() { r.client.HTTP.CloseIdleConnections() }

// Current implements decrypt.Registry.
func (r *registry) Current() error { return r.follower.Check(context.Background()) }

// Confirm implements decrypt.Registry: the next message finds in the catalog what became of the confirmation.
func (r *registry) Confirm(ctx context.Context, c decrypt.Confirmation) error {
	var o feed.Observations
	for _, k := range c.Keys {
		o.Confirmed = append(o.Confirmed, feed.Confirmation{Terminal: c.Terminal, Slot: k.Slot, KeySet: k.KeySet, KeyID: k.KeyID})
	}
	post, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	epoch, sequence, err := r.client.Observe(post, o)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	if err := r.follower.WaitFor(wait, epoch, sequence); err != nil {
		return fmt.Errorf("wait for record %d of epoch %d: %w", sequence, epoch, err)
	}
	return nil
}

// Used implements decrypt.Registry.
func (r *registry) Used(u decrypt.Use) {
	r.marks.add(markKey{u.Terminal, u.Key.KeySet, u.Key.KeyID}, u.Ordinal, u.Time)
}

// Suspected implements decrypt.Registry: the reporter looks into the store.
func (r *registry) Suspected(decrypt.CounterKey) {
	select {
	case r.alarm <- struct{}{}:
	default: // one is waiting already
	}
}

// catalog has its key sets from documents and its terminals from the feed. That each key of a record is of its key set is
// looked at when it is used.
type catalog struct {
	documents *deploy.Catalog
	feed      *feed.Follower
}

var _ decrypt.Catalog = catalog{}

// KeySet implements decrypt.Catalog.
func (c catalog) KeySet(id keyset.ID) (*keyset.KeySet, bool) { return c.documents.KeySet(id) }

// KeySetOver implements decrypt.Catalog.
func (c catalog) KeySetOver(base keys.Fingerprint, id dukpt.KeyID) (*keyset.KeySet, bool) {
	return c.documents.KeySetOver(base, id)
}

// Holder implements decrypt.Catalog.
func (c catalog) Holder(tenant keyset.TenantID, set keyset.ID, id dukpt.KeyID) (*keyset.Terminal, bool) {
	return c.feed.Holder(tenant, set, id)
}

// Terminal implements decrypt.Catalog.
func (c catalog) Terminal(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, bool) {
	return c.feed.Terminal(tenant, id)
}
