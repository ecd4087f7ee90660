package decrypt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	defaultSessions = 4
	defaultCache    = 4096

	maxSessions = 64
	maxCache    = 1 << 20
	maxPIN      = 255 // bytes

	listTimeout = time.Second // for the list of keys, which a connected token has at hand
)

// ErrPINFile says that the file with the PIN of the token is not there, is open to others or holds no PIN.
var ErrPINFile = errors.New("pin-file")

// errStuck ends the program: what hangs in a module can be got rid of in no other way.
var errStuck = errors.New("hsm: a call into the module does not return: start the service again")

func (c Config) checkHSM() error {
	h := c.HSM
	if h == nil {
		return nil
	}
	if err := h.check(); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	return nil
}

func (h HSMConfig) check() error {
	u, err := hsm.ParseURI(h.URI)
	switch {
	case err != nil:
		return fmt.Errorf("uri: %w", err)
	case u.Module() == "":
		return errors.New("uri: want a module-path, as in pkcs11:token=NAME?module-path=PATH")
	case u.PINSource() != "":
		return errors.New("uri: pin-source is not for here: name the file by pin-file")
	case h.PINFile == "":
		return errors.New("pin-file: it is required")
	case h.Sessions < 1 || h.Sessions > maxSessions:
		return fmt.Errorf("sessions: want 1 to %d", maxSessions)
	case h.Cache < -1 || h.Cache == 0 || h.Cache > maxCache:
		return fmt.Errorf("cache: want -1 for none, or 1 to %d", maxCache)
	}
	_, err = h.fingerprints()
	return err
}

// fingerprints returns by what fingerprint key sets know a key of the token.
func (h HSMConfig) fingerprints() (map[keys.Fingerprint]keys.Fingerprint, error) {
	out, taken := map[keys.Fingerprint]keys.Fingerprint{}, map[keys.Fingerprint]bool{}
	for inToken, inSets := range h.Fingerprints {
		from, err := keys.ParseFingerprint(inToken)
		if err != nil {
			return nil, fmt.Errorf("fingerprints: %w", err)
		}
		to, err := keys.ParseFingerprint(inSets)
		if err != nil {
			return nil, fmt.Errorf("fingerprints: %w", err)
		}
		if _, twice := out[from]; twice || taken[to] { // in large and in small letters, or two for one
			return nil, fmt.Errorf("fingerprints: %v to %v: a key is named twice", from, to)
		}
		out[from], taken[to] = to, true
	}
	return out, nil
}

// token is the token of a configuration, under the names and fingerprints of its key sets.
type token struct {
	*hsm.Token
	known map[keys.Fingerprint]keys.Fingerprint
	stuck chan struct{} // closed when the module does not return

	mu   sync.Mutex
	last []engine.KeyInfo // while it is away
}

// openToken logs in to the token of the configuration, if there is one, and wants the keys that the configuration names.
func (n *node) openToken(ctx context.Context) error {
	h := n.config.HSM
	if h == nil {
		return nil
	}
	u, err := hsm.ParseURI(h.URI)
	if err != nil {
		return fmt.Errorf("hsm: uri: %w", err)
	}
	t := &token{stuck: make(chan struct{})}
	if t.known, err = h.fingerprints(); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	pin, err := readPIN(n.path(h.PINFile))
	if err != nil {
		return fmt.Errorf("hsm: %w: %w", ErrPINFile, err)
	}
	defer pin.Wipe()
	t.Token, err = hsm.Open(ctx, u, pin, hsm.Options{
		Sessions: h.Sessions, CacheObjects: h.Cache, Log: n.log, Stuck: sync.OnceFunc(func() { close(t.stuck) }),
	})
	if err != nil {
		return err // it says that it is of package hsm
	}
	n.token = t
	if err := t.has(ctx, n.config.Callers); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	if err := t.report(ctx, n.log); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	return watchToken(n.metrics.Registry, t.Token)
}

// has wants the token to have every key that fingerprints name, and every zone key of the callers. Base keys of key sets are
// for the catalog to look for.
func (t *token) has(ctx context.Context, callers []CallerConfig) error {
	there := map[keys.Fingerprint]bool{}
	list, err := t.Keys(ctx)
	if err != nil {
		return err
	}
	for _, k := range list {
		there[k.Fingerprint] = true
	}
	for f := range t.known {
		if !there[f] {
			return fmt.Errorf("fingerprints: %w with the fingerprint %v", engine.ErrKeyNotFound, f)
		}
	}
	for _, caller := range callers {
		refs, err := caller.keys()
		if err != nil {
			return err
		}
		for _, ref := range refs {
			switch k, err := t.Engine().Describe(ctx, ref); {
			case err != nil:
				return fmt.Errorf("pin-keys of caller %s: %w", caller.Name, err)
			case k.Attributes.Usage != keys.UsagePIN:
				return fmt.Errorf("pin-keys of caller %s: %w: %s has usage %s, want %s", caller.Name, engine.ErrUsage, ref, k.Attributes.Usage, keys.UsagePIN)
			}
		}
	}
	return nil
}

// report logs how each base key works and why.
func (t *token) report(ctx context.Context, log *slog.Logger) error {
	r, err := t.Probe(ctx)
	if err != nil {
		return err
	}
	for _, k := range r.Keys {
		log.InfoContext(ctx, "base key in the token", slog.String("key", k.Ref.String()), slog.String("key_mode", k.KeyMode.String()),
			slog.String("pin_exposure", k.PINExposure.String()), slog.String("why", k.Why))
	}
	return nil
}

// watch ends the service when the token is stuck, and otherwise with ctx.
func (t *token) watch(ctx context.Context) error {
	select {
	case <-t.stuck:
		return errStuck
	case <-ctx.Done():
		return nil
	}
}

// close logs out.
func (t *token) close() error { return t.Close() }

// engine returns the token as an engine, whose keys have the fingerprints of the key sets.
func (t *token) engine() engine.Engine { return renamed{t.Engine(), t} }

// list returns what is public about every key. While the token is away it returns what was there before: catalogs go on.
func (t *token) list() []engine.KeyInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != nil && !t.Stats().Connected {
		return t.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	list, err := t.Keys(ctx)
	if err != nil {
		return t.last
	}
	for i := range list {
		list[i] = t.named(list[i])
	}
	t.last = list
	return list
}

// named gives a key the fingerprint that key sets know it by.
func (t *token) named(k engine.KeyInfo) engine.KeyInfo {
	if f, ok := t.known[k.Fingerprint]; ok {
		k.Fingerprint = f
	}
	return k
}

// renamed is an engine whose keys have the fingerprints of the key sets.
type renamed struct {
	engine.Engine
	token *token
}

// Describe implements engine.Engine.
func (e renamed) Describe(ctx context.Context, ref keyset.KeyRef) (engine.KeyInfo, error) {
	k, err := e.Engine.Describe(ctx, ref)
	return e.token.named(k), err
}

// readPIN reads the one line of a file that its owner alone can read.
func readPIN(path string) (secret.Bytes, error) {
	pin, err := seal.ReadSecret(path, "PIN", 1, maxPIN)
	if err != nil {
		return secret.Bytes{}, err
	}
	for _, c := range pin.Expose() {
		if c < ' ' {
			pin.Wipe()
			return secret.Bytes{}, fmt.Errorf("%s holds more than one line", path)
		}
	}
	return pin, nil
}

// watchToken adds what there is to say about a token.
func watchToken(reg prometheus.Registerer, t *hsm.Token) error {
	for _, m := range []struct {
		name, help string
		counts     bool
		value      func(hsm.Stats) float64
	}{
		{"latchkey_hsm_connected", "1 while the token is there, 0 while it is away.", false, func(s hsm.Stats) float64 {
			if s.Connected {
				return 1
			}
			return 0
		}},
		{"latchkey_hsm_cached_keys", "Derived keys that are kept in the token.", false, func(s hsm.Stats) float64 { return float64(s.CachedKeys) }},
		{"latchkey_hsm_derivations_total", "Keys derived in the token.", true, func(s hsm.Stats) float64 { return float64(s.Derivations) }},
		{"latchkey_hsm_searches_total", "Searches for objects of the token.", true, func(s hsm.Stats) float64 { return float64(s.Finds) }},
		{"latchkey_hsm_evictions_total", "Terminals whose keys were dropped from the token for others.", true, func(s hsm.Stats) float64 { return float64(s.Evictions) }},
		{"latchkey_hsm_retries_total", "Operations that were repeated after an error of the token.", true, func(s hsm.Stats) float64 { return float64(s.Retries) }},
		{"latchkey_hsm_reconnects_total", "Connections to the token after the first.", true, func(s hsm.Stats) float64 { return float64(s.Reconnects) }},
		{"latchkey_hsm_restarts_total", "Restarts of the PKCS#11 module.", true, func(s hsm.Stats) float64 { return float64(s.Generation) }},
	} {
		value := func() float64 { return m.value(t.Stats()) }
		var c prometheus.Collector = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.name, Help: m.help}, value)
		if m.counts {
			c = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help}, value)
		}
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
