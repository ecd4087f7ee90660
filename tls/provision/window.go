package provision

import (
	"fmt"
	"time"
)

// Window says in which part of the life of a certificate a terminal renews it, in percent: not before After, and hurrying
// from Before on. It is told with each assignment, so a window that was changed moves terminals that run already.
type Window struct{ After, Before uint }

// Check reports what is wrong with a window. What is left of the life after it is for terminals that were away, and for an
// issuer that is.
func (w Window) Check() error {
	if w.After < 1 || w.Before <= w.After || w.Before > 95 {
		return fmt.Errorf("renewal from %d to %d percent, want 1 or more, then more than that, then at most 95", w.After, w.Before)
	}
	return nil
}

// of returns the window of a certificate.
func (w Window) of(notBefore, notAfter time.Time) (after, before time.Time) {
	part := notAfter.Sub(notBefore) / 100
	return notBefore.Add(part * time.Duration(w.After)).Truncate(time.Second), notBefore.Add(part * time.Duration(w.Before)).Truncate(time.Second)
}

func (c *Config) checkRenewal() error {
	if c.Renewal != (Window{}) {
		if err := c.Renewal.Check(); err != nil {
			return fmt.Errorf("provision: %w", err)
		}
	}
	for group, w := range c.Renewals {
		if _, err := ParseGroup(string(group)); err != nil {
			return err
		}
		if err := w.Check(); err != nil {
			return fmt.Errorf("provision: group %s: %w", group, err)
		}
	}
	return nil
}

// window returns the window for terminals of a group.
func (e *Engine) window(g Group) Window {
	if w, ok := e.config.Renewals[g]; ok && g != "" {
		return w
	}
	return e.config.Renewal
}
