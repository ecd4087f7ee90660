package vault

import (
	"crypto/x509"
	"time"

	"github.com/hashicorp/vault/api"
)

// Breaker is the breaker, for its own tests.
type Breaker = breaker

// NewBreaker makes one with a clock.
func NewBreaker(clock func() time.Time) *Breaker { return &breaker{clock: clock} }

// Enter is enter.
func (b *breaker) Enter() (time.Duration, bool) { return b.enter() }

// Left is left.
func (b *breaker) Left(failed bool) { b.left(failed) }

// Abandoned is abandoned.
func (b *breaker) Abandoned() { b.abandoned() }

// Signed reads what an answer of Vault with this member certificate holds.
func Signed(certificate any) (*x509.Certificate, error) {
	return signed(&api.Secret{Data: map[string]any{"certificate": certificate}})
}

// Plain is plain.
func Plain(s string) string { return plain(s) }
