package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"
)

const (
	warnBefore = 30 * 24 * time.Hour // how long before the end of a certificate is warned of it
	warnEvery  = 24 * time.Hour
)

// Lifetime watches certificates that nobody else renews: the daemon is not ready when one of them is not valid now, and
// warns beforehand.
type Lifetime struct {
	Name   string // of the member with the certificate, for errors and the log
	Chain  []*x509.Certificate
	Logger *slog.Logger
	Clock  func() time.Time // nil: time.Now
}

func (l *Lifetime) now() time.Time {
	if l.Clock != nil {
		return l.Clock()
	}
	return time.Now()
}

// Check reports whether every one of the certificates is valid now.
func (l *Lifetime) Check(context.Context) error {
	now := l.now()
	for _, c := range l.Chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return fmt.Errorf("%s: valid from %s to %s only", l.Name, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// Run warns of certificates that end within 30 days, or are over, at once and then every day until ctx ends. It returns nil.
func (l *Lifetime) Run(ctx context.Context) error {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		l.warn(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (l *Lifetime) warn(ctx context.Context) {
	soon := l.now().Add(warnBefore)
	for _, c := range l.Chain {
		if soon.After(c.NotAfter) {
			l.Logger.WarnContext(ctx, "a certificate ends soon: replace it", slog.String("member", l.Name),
				slog.String("subject", c.Subject.String()), slog.Time("not-after", c.NotAfter.UTC()))
		}
	}
}
