package vault

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// session is being logged in. Whoever needs a token gets the one there is or logs in, one at a time; run keeps it alive.
// It is safe for concurrent use.
type session struct {
	login   Login
	connect *connector
	clock   func() time.Time
	log     *slog.Logger
	client  *api.Client // with the token of the session
	turn    chan struct{}

	mu      sync.Mutex
	current *api.Secret // of the last login; nil when it is no good any more
	expires time.Time   // zero: never
	count   uint64      // logins so far
	changed chan struct{}
}

func newSession(o *Options, c *connector) (*session, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	return &session{
		login: o.Login, connect: c, clock: o.Clock, log: o.Logger, client: client,
		turn: make(chan struct{}, 1), changed: make(chan struct{}),
	}, nil
}

// state returns the login in force, nil when there is none, with its number and what is closed at the next change.
func (s *session) state() (current *api.Secret, count uint64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.expires.IsZero() && !s.clock().Before(s.expires) {
		s.current = nil
	}
	return s.current, s.count, s.changed
}

// ensure returns the number of the login in force, and logs in when there is none.
func (s *session) ensure(ctx context.Context) (uint64, error) {
	if current, count, _ := s.state(); current != nil {
		return count, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if current, count, _ := s.state(); current != nil {
		return count, nil // somebody else has
	}
	ctx, cancel := context.WithTimeout(ctx, s.connect.timeout)
	defer cancel()
	secret, err := s.login.login(ctx, s.connect.client)
	if err != nil {
		return 0, err
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return 0, errors.New("vault: the answer to the login holds no token")
	}
	return s.accept(secret), nil
}

// accept takes a login into use.
func (s *session) accept(secret *api.Secret) uint64 {
	s.client.SetToken(secret.Auth.ClientToken)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.expires = secret, s.expiry(secret)
	s.count++
	close(s.changed)
	s.changed = make(chan struct{})
	s.log.Info("logged in to Vault", slog.Int("ttl_seconds", secret.Auth.LeaseDuration), slog.Bool("renewable", secret.Auth.Renewable))
	return s.count
}

func (s *session) expiry(secret *api.Secret) time.Time {
	if secret.Auth.LeaseDuration <= 0 {
		return time.Time{}
	}
	return s.clock().Add(time.Duration(secret.Auth.LeaseDuration) * time.Second)
}

// renewed moves the end of a login.
func (s *session) renewed(count uint64, secret *api.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == count && s.current != nil && secret != nil && secret.Auth != nil {
		s.expires = s.expiry(secret)
	}
}

// lost says that the login of a number is no good any more. A newer one stays.
func (s *session) lost(count uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == count && s.current != nil {
		s.current = nil
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// run keeps the session logged in until ctx ends. Around the library's watcher, which ends at the longest life of a token
// and with every token that is revoked, it logs in again.
func (s *session) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		if _, err := s.ensure(ctx); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("login to Vault failed", slog.String("error", plain(describe("login", err))))
			}
			sleep(ctx, rand.N(pause)) // full jitter: many registration authorities may share a Vault
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		s.watch(ctx)
	}
}

// watch renews the login in force until it ends, or another one takes its place.
func (s *session) watch(ctx context.Context) {
	secret, count, changed := s.state()
	if secret == nil {
		return
	}
	if secret.Auth.LeaseDuration <= 0 { // never expires: a root token
		select {
		case <-changed:
		case <-ctx.Done():
		}
		return
	}
	watcher, err := s.client.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil { // only an input without a secret
		s.lost(count)
		return
	}
	var watching sync.WaitGroup
	watching.Go(watcher.Start)
	defer watching.Wait()
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			return
		case out := <-watcher.RenewCh():
			s.renewed(count, out.Secret)
		case err := <-watcher.DoneCh():
			if err != nil {
				s.log.Warn("renewal of the token of Vault failed", slog.String("error", plain(describe("renew", err))))
			}
			s.lost(count)
			return
		}
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
