package provision

import (
	"cmp"
	"crypto/subtle"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// codable returns the row of a terminal that may get a code.
func (t *transaction) codable(id keyset.TerminalID) (*Terminal, error) {
	row, err := registered(t.Tx, id)
	if err != nil {
		return nil, err
	}
	if !row.connects() {
		return nil, refuse(CodeStatusNotPermitted, "terminal %s is %v", row.ID, row.Status)
	}
	return row, nil
}

// reissue hands a code out to one terminal of a list that is registered, or finds that it has been: again says so. The code before is
// void. One that was made since the list was approved is newer than the list, and stays.
func (t *transaction) reissue(actor Actor, a *Approval, r *Registration, seed secret.Bytes, pin string) (out Enlisted, again bool, _ error) {
	out.Terminal = r.Terminal
	row, err := t.codable(r.Terminal)
	if err != nil {
		err := out.refused(err)
		return out, false, err
	}
	code := t.engine.seededCode(seed, r.Terminal, a.Operation.Short)
	defer code.Wipe()
	check := t.engine.checkValue(r.Terminal, code)
	old, ok, err := t.OneTimeCode(r.Terminal)
	switch {
	case err != nil:
		return out, false, err
	case ok && subtle.ConstantTimeCompare(check[:], old.Check[:]) == 1:
		err := t.again(&out, row, check, code, pin)
		return out, out.Ticket.Len() > 0, err
	case ok && old.Created.After(a.Approved):
		out.Code, out.Detail = CodeOneTimeCodeVoid, fmt.Sprintf("%s has made a newer one for %s at %s", old.Author, row.ID, stamp(old.Created))
		return out, false, nil
	}
	c := &OneTimeCode{
		Terminal: r.Terminal, Check: check, State: StateOpen, Created: t.now,
		Expires: t.now.Add(cmp.Or(a.Operation.Lifetime, defaultLifetime)), Author: actor.Identity.Name,
	}
	if err := t.PutOneTimeCode(c); err != nil {
		return out, false, err
	}
	out.Ticket, out.Expires = ticketOf(code, pin), c.Expires
	p := &execution{op: r.operation(), actor: actor, approval: a}
	record := p.record()
	record.Reason = "list of approval " + a.ID
	if a.SelfApproved {
		record.Reason = selfApproved + ": " + record.Reason
	}
	return out, false, t.note(record)
}
