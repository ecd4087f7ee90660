// Package token opens the PKCS#11 token of a service, as a section hsm of its configuration says.
//
// [Open] logs in, [Token.Engine] and [Token.List] give its keys under the fingerprints of the key sets, and [Token.Signer] a
// private key in it. [Token.Run] ends the service when the module does not return.
package token

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
)

// What a section says that says nothing about it.
const (
	DefaultSessions = 4
	DefaultCache    = 4096
)

const (
	maxSessions = 64
	maxCache    = 1 << 20
	maxPIN      = 255 // bytes

	listTimeout = time.Second // for the list of keys, which a connected token has at hand
)

// ErrPINFile says that the file with the PIN of the token is not there, is open to others or holds no PIN.
var ErrPINFile = errors.New("pin-file")

// ErrStuck ends the program: what hangs in a module can be got rid of in no other way.
var ErrStuck = errors.New("hsm: a call into the module does not return: start the service again")

// Config is a section hsm: which token keys are used from, and how. Which module it is stands in the URI.
type Config struct {
	URI      string `yaml:"uri"`      // RFC 7512, of one token, with its module-path and without a PIN or the place of one; required
	PINFile  string `yaml:"pin-file"` // one line; mode 0600; required
	Sessions int    `yaml:"sessions"` // operations at the same time; default 4, 1 to 64
	Cache    int    `yaml:"cache"`    // derived keys kept in the token for the next transactions; default 4096, -1 for none, to 1048576

	// CarryPINs has PIN blocks of base keys in mode token pass as wrapped keys, with the clear block inside. A token that cannot, or
	// a zone key of the callers that may not wrap, ends the start: nothing falls back to host memory. Absent: PINs pass through it.
	CarryPINs bool `yaml:"carry-pins"`

	// Fingerprints say which base key of the token is which one of the keyring that the key sets were made with: by the
	// fingerprint in the token, the one there. A key that is not named has the one in the token, as in key sets that were made
	// with a token.
	Fingerprints map[string]string `yaml:"fingerprints"`
}

// Complete sets what a section says nothing about, after the text of the file that it is in was read into c. An empty section
// would leave the token alone, which is for an absent one to say. Members that the service has no use for are refused.
func (c *Config) Complete(file []byte, useless ...string) error {
	var members map[string]any
	if err := yaml.Unmarshal(file, &members); err != nil {
		return err
	}
	section, named := members["hsm"]
	if !named {
		return nil
	}
	if c == nil {
		return errors.New("hsm: want a mapping with uri and pin-file")
	}
	said, _ := section.(map[string]any)
	for _, name := range useless {
		if _, named := said[name]; named {
			return fmt.Errorf("hsm: %s: this service has no use for it", name)
		}
	}
	if _, named := said["sessions"]; !named {
		c.Sessions = DefaultSessions
	}
	if _, named := said["cache"]; !named {
		c.Cache = DefaultCache
	}
	return nil
}

// Check reports the first member that cannot be right. It touches no file; nil is right.
func (c *Config) Check() error {
	if c == nil {
		return nil
	}
	if err := c.check(); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	return nil
}

func (c *Config) check() error {
	u, err := hsm.ParseURI(c.URI)
	switch {
	case err != nil:
		return fmt.Errorf("uri: %w", err)
	case u.Module() == "":
		return errors.New("uri: want a module-path, as in pkcs11:token=NAME?module-path=PATH")
	case u.PINSource() != "":
		return errors.New("uri: pin-source is not for here: name the file by pin-file")
	case c.PINFile == "":
		return errors.New("pin-file: it is required")
	case c.Sessions < 1 || c.Sessions > maxSessions:
		return fmt.Errorf("sessions: want 1 to %d", maxSessions)
	case c.Cache < -1 || c.Cache == 0 || c.Cache > maxCache:
		return fmt.Errorf("cache: want -1 for none, or 1 to %d", maxCache)
	}
	_, err = c.fingerprints()
	return err
}

// fingerprints returns by what fingerprint key sets know a key of the token.
func (c *Config) fingerprints() (map[keys.Fingerprint]keys.Fingerprint, error) {
	out, taken := map[keys.Fingerprint]keys.Fingerprint{}, map[keys.Fingerprint]bool{}
	for inToken, inSets := range c.Fingerprints {
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

// IsKey reports whether a member that names a private key names one in a token, and not a sealed file.
func IsKey(member string) bool { return strings.HasPrefix(member, "pkcs11:") }

// CheckKey reports a member that names a private key in a token wrongly, or without a token. Files are not for here.
func (c *Config) CheckKey(name, member string) error {
	if !IsKey(member) {
		return nil
	}
	u, err := hsm.ParseURI(member)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case !u.NamesKey():
		return fmt.Errorf("%s: want pkcs11:object=NAME and no more: which token it is in stands in hsm: uri", name)
	case c == nil:
		return fmt.Errorf("%s: it is in a token, and there is no section hsm", name)
	}
	return nil
}

// CheckIssuerKey is CheckKey for the member issuer-key, which names a key in a token or nothing: files are in the issuer's folder.
func (c *Config) CheckIssuerKey(member string) error {
	if member != "" && !IsKey(member) {
		return errors.New("issuer-key: want pkcs11:object=NAME; without it the key is the one in the folder of the issuer")
	}
	return c.CheckKey("issuer-key", member)
}

// Work is what a service does with the keys of its token. It has no keys for other work.
type Work uint8

// The kinds of work.
const (
	Transactions Work = iota + 1 // of terminals: the decryption service
	Distribution                 // of initial keys: the key-distribution host
	Signatures                   // and nothing else
)

// Token is the token of a configuration, under the names and fingerprints of its key sets. It is safe for concurrent use.
type Token struct {
	*hsm.Token
	work  Work
	known map[keys.Fingerprint]keys.Fingerprint
	stuck chan struct{} // closed when the module does not return
	once  sync.Once     // closes it

	mu   sync.Mutex
	last []engine.KeyInfo // while it is away
}

// Open logs in to the token of a configuration for one kind of work, and wants it to have the keys that fingerprints name. path is that of the file
// with the PIN. Errors are those of hsm.Open, ErrPINFile, or wrap engine.ErrKeyNotFound.
func Open(ctx context.Context, c *Config, work Work, path string, log *slog.Logger) (_ *Token, err error) {
	u, err := hsm.ParseURI(c.URI)
	if err != nil {
		return nil, fmt.Errorf("hsm: uri: %w", err)
	}
	t := &Token{work: work, stuck: make(chan struct{})}
	if t.known, err = c.fingerprints(); err != nil {
		return nil, fmt.Errorf("hsm: %w", err)
	}
	pin, err := readPIN(path)
	if err != nil {
		return nil, fmt.Errorf("hsm: %w: %w", ErrPINFile, err)
	}
	defer pin.Wipe()
	cache := c.Cache
	if work != Transactions {
		cache = -1 // nothing is derived in the token
	}
	t.Token, err = hsm.Open(ctx, u, pin, hsm.Options{
		Sessions: c.Sessions, CacheObjects: cache, CarryPINs: c.CarryPINs && work == Transactions, Log: log, Stuck: t.Abandon,
	})
	if err != nil {
		return nil, err // it says that it is of package hsm
	}
	if err := t.has(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("hsm: %w", err), t.Close())
	}
	return t, nil
}

// has wants the token to have every key that fingerprints name. Base keys of key sets are for the catalog to look for.
func (t *Token) has(ctx context.Context) error {
	there := map[keys.Fingerprint]bool{}
	list, err := t.own(ctx)
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
	return nil
}

// own returns what is public about the keys for the work of this service.
func (t *Token) own(ctx context.Context) ([]engine.KeyInfo, error) {
	given, err := t.Token.Distribution().Keys(ctx)
	if err != nil || t.work == Distribution {
		return given, err
	}
	all, err := t.Keys(ctx)
	return slices.DeleteFunc(all, func(k engine.KeyInfo) bool { return slices.Contains(given, k) }), err
}

// Key returns the private key that a member of the configuration names: in the token, or in the sealed file at a path. Errors name
// the member.
func (t *Token) Key(ctx context.Context, name, member string, path func(string) string, passphrase secret.Bytes) (daemon.PrivateKey, error) {
	if !IsKey(member) {
		return daemon.PrivateKey{File: path(member), Passphrase: passphrase}, nil
	}
	held, err := t.Signer(ctx, member)
	if err != nil {
		return daemon.PrivateKey{}, fmt.Errorf("%s: %w", name, err)
	}
	return daemon.PrivateKey{Held: held}, nil
}

// Issuer opens an embedded authority, whose key is in the token where the member issuer-key names one.
func (t *Token) Issuer(ctx context.Context, folder, member string, passphrase secret.Bytes, o embedded.Options) (*embedded.Issuer, error) {
	if member != "" {
		held, err := t.Signer(ctx, member)
		if err != nil {
			return nil, fmt.Errorf("issuer-key: %w", err)
		}
		o.Issuing = held
	}
	i, err := embedded.OpenWith(folder, passphrase, o)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return i, nil
}

// Signer returns the private key in the token that a member of the configuration names.
func (t *Token) Signer(ctx context.Context, member string) (crypto.Signer, error) {
	u, err := hsm.ParseURI(member)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, errors.New("it is in a token, and there is no section hsm")
	}
	return t.Token.Signer(ctx, u)
}

// Report logs how each base key works and why.
func (t *Token) Report(ctx context.Context, log *slog.Logger) error {
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

// Abandon has Run end: a call into the module does not return.
func (t *Token) Abandon() { t.once.Do(func() { close(t.stuck) }) }

// Run ends the service when the token is stuck, and otherwise with ctx.
func (t *Token) Run(ctx context.Context) error {
	select {
	case <-t.stuck:
		return ErrStuck
	case <-ctx.Done():
		return nil
	}
}

// Engine returns the token as an engine, whose keys have the fingerprints of the key sets.
func (t *Token) Engine() engine.Engine { return renamed{t.Token.Engine(), t} }

// List returns what is public about every key for the work of this service. While the token is away it returns what was there before: catalogs go on.
func (t *Token) List() []engine.KeyInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != nil && !t.Stats().Connected {
		return t.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	list, err := t.own(ctx)
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
func (t *Token) named(k engine.KeyInfo) engine.KeyInfo {
	if f, ok := t.known[k.Fingerprint]; ok {
		k.Fingerprint = f
	}
	return k
}

// renamed is an engine whose keys have the fingerprints of the key sets.
type renamed struct {
	engine.Engine
	token *Token
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

// Watch adds what there is to say about the token to metrics.
func (t *Token) Watch(reg prometheus.Registerer) error {
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
		{"latchkey_hsm_sessions_in_use", "Sessions that operations have now.", false, func(s hsm.Stats) float64 { return float64(s.SessionsInUse) }},
		{"latchkey_hsm_session_waits_total", "Operations that waited for a session.", true, func(s hsm.Stats) float64 { return float64(s.Waits) }},
		{"latchkey_hsm_session_wait_seconds_total", "How long operations waited for sessions, all together.", true, func(s hsm.Stats) float64 { return s.Waited.Seconds() }},
		{"latchkey_hsm_session_timeouts_total", "Operations that got no session.", true, func(s hsm.Stats) float64 { return float64(s.Busy) }},
		{"latchkey_hsm_oldest_call_seconds", "How long the oldest call into the module has been under way, 0 for none.", false, func(s hsm.Stats) float64 { return s.OldestCall.Seconds() }},
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
