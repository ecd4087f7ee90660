package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestLifetime moves through the life of a leaf and of the certificate above it, which ends later.
func TestLifetime(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, NotBefore: begin, NotAfter: begin.Add(365 * day)}
	issuing := &x509.Certificate{Subject: pkix.Name{CommonName: "issuing"}, NotBefore: begin.Add(-day), NotAfter: begin.Add(380 * day)}
	for name, tc := range map[string]struct {
		at    time.Time
		valid bool
		warns string // of these certificates
	}{
		"before":             {begin.Add(-time.Second), false, ""},
		"first second":       {begin, true, ""},
		"31 days before":     {leaf.NotAfter.Add(-31 * day), true, ""},
		"30 days before":     {leaf.NotAfter.Add(-30 * day), true, ""},
		"just under 30 days": {leaf.NotAfter.Add(-30*day + time.Second), true, "leaf"},
		"10 days before":     {leaf.NotAfter.Add(-10 * day), true, "leaf issuing"},
		"last second":        {leaf.NotAfter, true, "leaf issuing"},
		"over":               {leaf.NotAfter.Add(time.Second), false, "leaf issuing"},
	} {
		var log bytes.Buffer
		l := &Lifetime{
			Name: "signer-certificate", Chain: []*x509.Certificate{leaf, issuing}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Clock: func() time.Time { return tc.at },
		}
		err := l.Check(t.Context())
		if (err == nil) != tc.valid || err != nil && !strings.Contains(err.Error(), "signer-certificate") {
			t.Errorf("%s: %v, want valid %t", name, err, tc.valid)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Run(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, subject := range []string{"leaf", "issuing"} {
			if strings.Contains(log.String(), "CN="+subject) != strings.Contains(tc.warns, subject) {
				t.Errorf("%s: the log is %q, want warnings of %q", name, log.String(), tc.warns)
			}
		}
	}
}

// TestLifetimeNow asks the clock of the system.
func TestLifetimeNow(t *testing.T) {
	t.Parallel()
	c := &x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	l := &Lifetime{Name: "certificate", Chain: []*x509.Certificate{c}}
	if err := l.Check(t.Context()); err != nil {
		t.Error(err)
	}
	c.NotAfter = time.Now().Add(-time.Minute)
	if err := l.Check(t.Context()); err == nil {
		t.Error("a certificate that is over passes")
	}
}
