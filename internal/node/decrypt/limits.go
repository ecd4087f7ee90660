package decrypt

import (
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/limit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/serve"
)

// RateConfig is how often something may be asked: Burst times at once, and after that Count times in each Per.
type RateConfig struct {
	Burst int             `yaml:"burst"`
	Count int             `yaml:"count"`
	Per   daemon.Duration `yaml:"per"`
}

// LimitsConfig bounds what one process does. An absent rate has the default that its comment names. Each process counts by itself.
type LimitsConfig struct {
	Caller   *RateConfig `yaml:"caller"`   // messages and calls of one caller; default 10000 at once, 5000 in 1s
	Terminal *RateConfig `yaml:"terminal"` // messages and calls of one terminal; default 4000 at once, which is a full queue, 100 in 1s

	FixedCaller *RateConfig `yaml:"fixed-caller"` // calls without a KSN of one caller; default 400 at once, 200 in 1s
	FixedKey    *RateConfig `yaml:"fixed-key"`    // the same under one key; default 400 at once, 200 in 1s
	Card        *RateConfig `yaml:"card"`         // PIN translations without a KSN for one card; default 10 at once, 10 in 1h
	PINBlock    *RateConfig `yaml:"pin-block"`    // the same of one PIN block; default 10 at once, 10 in 1h
	Cards       int         `yaml:"cards"`        // cards, and PIN blocks, that are counted at once; default 131072, 1024 to 4194304

	Working  int             `yaml:"working"`  // requests worked on at once; default 512, 1 to 65536
	Waiting  int             `yaml:"waiting"`  // requests that wait for that; default 2048, 1 to 65536
	Patience daemon.Duration `yaml:"patience"` // how long each waits; default 2s, 10ms to 8s
	Body     int             `yaml:"body"`     // bytes of a request, a batch apart; default 65536, 1024 to 65536
}

// The defaults of what package decrypt has none of.
var (
	defaultCaller   = limit.Rate{Burst: 10000, Count: 5000, Per: time.Second}
	defaultTerminal = limit.Rate{Burst: 4000, Count: 100, Per: time.Second}
)

const (
	defaultWorking  = 512
	defaultWaiting  = 2048
	defaultPatience = 2 * time.Second
)

// complete sets what the section does not say; an absent section is all defaults.
func (l *LimitsConfig) complete() *LimitsConfig {
	out := LimitsConfig{}
	if l != nil {
		out = *l
	}
	for _, r := range []struct {
		member   **RateConfig
		fallback limit.Rate
	}{
		{&out.Caller, defaultCaller}, {&out.Terminal, defaultTerminal}, {&out.FixedCaller, decrypt.DefaultFixedCaller},
		{&out.FixedKey, decrypt.DefaultFixedKey}, {&out.Card, decrypt.DefaultPAN}, {&out.PINBlock, decrypt.DefaultPINBlock},
	} {
		if *r.member == nil {
			*r.member = &RateConfig{Burst: r.fallback.Burst, Count: r.fallback.Count, Per: daemon.Duration(r.fallback.Per)}
		}
	}
	for _, m := range []struct {
		member   *int
		fallback int
	}{{&out.Cards, decrypt.DefaultCards}, {&out.Working, defaultWorking}, {&out.Waiting, defaultWaiting}, {&out.Body, serve.MaxBody}} {
		if *m.member == 0 {
			*m.member = m.fallback
		}
	}
	if out.Patience == 0 {
		out.Patience = daemon.Duration(defaultPatience)
	}
	return &out
}

func (l *LimitsConfig) check() error {
	c := l.complete()
	for _, r := range []struct {
		name string
		rate *RateConfig
	}{
		{"caller", c.Caller}, {"terminal", c.Terminal}, {"fixed-caller", c.FixedCaller}, {"fixed-key", c.FixedKey}, {"card", c.Card}, {"pin-block", c.PINBlock},
	} {
		if err := r.rate.check(); err != nil {
			return fmt.Errorf("limits: %s: %w", r.name, err)
		}
	}
	for _, n := range []struct {
		name               string
		value, least, most int
	}{
		{"cards", c.Cards, 1 << 10, 1 << 22}, {"working", c.Working, 1, 1 << 16}, {"waiting", c.Waiting, 1, 1 << 16},
		{"body", c.Body, 1 << 10, serve.MaxBody},
	} {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("limits: %s: %d, want %d to %d", n.name, n.value, n.least, n.most)
		}
	}
	if err := daemon.CheckDuration("patience", c.Patience, 10*time.Millisecond, 8*time.Second); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return nil
}

const maxRate = 1 << 20

func (r *RateConfig) check() error {
	if r.Burst < 1 || r.Burst > maxRate || r.Count < 1 || r.Count > maxRate {
		return fmt.Errorf("burst and count: want 1 to %d", maxRate)
	}
	if per := time.Duration(r.Per); per < time.Second || per > 24*time.Hour {
		return errors.New("per: want 1s to 24h")
	}
	return nil
}

func (r *RateConfig) rate() limit.Rate {
	return limit.Rate{Burst: r.Burst, Count: r.Count, Per: time.Duration(r.Per)}
}

// limits are those of a checked configuration.
func (c Config) limits() decrypt.Limits {
	l := c.Limits.complete()
	return decrypt.Limits{
		Caller: l.Caller.rate(), Terminal: l.Terminal.rate(), FixedCaller: l.FixedCaller.rate(), FixedKey: l.FixedKey.rate(),
		PAN: l.Card.rate(), PINBlock: l.PINBlock.rate(), Cards: l.Cards, Callers: len(c.Callers),
		Working: l.Working, Waiting: l.Waiting, Patience: time.Duration(l.Patience),
	}
}
