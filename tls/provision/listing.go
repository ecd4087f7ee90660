package provision

import (
	"context"
	"errors"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// MaxListed is how many entries of a list are returned at once, at most.
const MaxListed = 1000

// filterStep is how many terminals are read at once where not every one is wanted.
const filterStep = MaxListed

// errEnough ends an iteration that has more than is wanted.
var errEnough = errors.New("provision: enough")

// atMost collects what an iteration yields, up to a limit, and reports whether there is more.
func atMost[R any](limit int, each func(yield func(R) error) error) (out []R, more bool, err error) {
	err = each(func(r R) error {
		if len(out) == limit {
			more = true
			return errEnough
		}
		out = append(out, r)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return out, more, err
}

func checkLimit(limit int) error {
	if limit < 1 || limit > MaxListed {
		return refuse(CodeRequestMalformed, "limit %d, want 1 to %d", limit, MaxListed)
	}
	return nil
}

// Terminals returns terminals by id, from behind one or from the first when that is empty, and whether there are more.
// limit is 1 to MaxListed. The error is a *Refusal.
func (e *Engine) Terminals(ctx context.Context, after keyset.TerminalID, limit int) (out []*Terminal, more bool, err error) {
	return e.Select(ctx, Filter{}, after, limit)
}

// Select is Terminals for those that a filter wants.
func (e *Engine) Select(ctx context.Context, f Filter, after keyset.TerminalID, limit int) (out []*Terminal, more bool, err error) {
	if err := checkLimit(limit); err != nil {
		return nil, false, err
	}
	err = e.view(ctx, func(tx Tx) error {
		out, more, err = atMost(limit, func(yield func(*Terminal) error) error { return f.each(tx, after, limit+1, yield) })
		return err
	})
	return out, more, err
}

// each yields the terminals that a filter wants, from behind one. It reads step by step, first as many as may be enough: not the
// whole table for a page.
func (f Filter) each(tx Tx, after keyset.TerminalID, step int, yield func(*Terminal) error) error {
	for {
		read := 0
		err := tx.Terminals(after, step, func(t *Terminal) error {
			read, after = read+1, t.ID
			if !f.matches(t) {
				return nil
			}
			return yield(t)
		})
		if err != nil || read < step {
			return err
		}
		step = filterStep
	}
}

// Certificates returns what was issued to a terminal, or to all when it is empty, the latest first, from behind the
// certificate of a serial number or from the latest when that is empty, and whether there is more. limit is 1 to MaxListed.
// The error is a *Refusal, CodeRequestMalformed for a serial number that no certificate has.
func (e *Engine) Certificates(ctx context.Context, terminal keyset.TerminalID, after string, limit int) (out []Issuance, more bool, err error) {
	if err := checkLimit(limit); err != nil {
		return nil, false, err
	}
	err = e.view(ctx, func(tx Tx) error {
		if err := checkAfter(tx, after); err != nil {
			return err
		}
		out, more, err = atMost(limit, func(yield func(Issuance) error) error { return tx.Certificates(terminal, after, limit+1, yield) })
		if err != nil {
			return err
		}
		return judge(tx, out)
	})
	return out, more, err
}

func checkAfter(tx Tx, serial string) error {
	if serial == "" {
		return nil
	}
	for _, role := range []identity.Role{identity.Terminal, identity.Agreement} {
		if _, ok, err := tx.Certificate(role, serial); err != nil || ok {
			return err
		}
	}
	return refuse(CodeRequestMalformed, "no certificate has the serial number to go on behind")
}

// judge says of certificates what they are worth to their terminals.
func judge(tx Tx, all []Issuance) error {
	rows := make(map[keyset.TerminalID]*Terminal)
	for i := range all {
		c := &all[i]
		row, ok := rows[c.Terminal]
		if !ok {
			var err error
			if row, ok, err = tx.Terminal(c.Terminal); err != nil {
				return err
			}
			if !ok {
				row = new(Terminal)
			}
			rows[c.Terminal] = row
		}
		c.State = row.worth(c)
	}
	return nil
}

// worth says what a certificate is worth to the terminal.
func (t *Terminal) worth(c *Issuance) CertificateState {
	current, previous := t.Serial, t.PreviousSerial
	if c.Role == identity.Agreement {
		current, previous = t.AgreementSerial, ""
	}
	switch {
	case !c.Revoked.IsZero():
		return CertificateRevoked
	case c.Serial == current:
		return CertificateCurrent
	case c.Serial == previous:
		return CertificatePrevious
	}
	return CertificateReplaced
}
