package decrypt

import (
	"context"
	"log/slog"

	"github.com/latchkey-pos/latchkey/message"
)

// signIn answers a sign-in. It releases nothing. Each slot MAC proves that the terminal has the key of the slot, and one
// that does not verify spoils the message. The claims have a purpose of their own, so a sign-in is accepted below the
// floor and on a counter that was used for something else; the acknowledgement then says ROLLED-BACK. It always says
// where the counters stand, also when the claims are refused. A pending key that it proves is confirmed after the claims are
// durable and before anything is acknowledged: when that fails, the same sign-in comes again.
func (t *transaction) signIn(ctx context.Context) (*TransactionResult, error) {
	p := t.m.Payload
	for i := range p.SlotMACs {
		m := p.SlotMACs[i]
		if err := t.verifyMAC(ctx, m.MACRef, message.SignInContent(p, m), m.MAC); err != nil {
			return nil, err
		}
	}
	set, err := t.signInClaims()
	if err != nil {
		return nil, err
	}
	outcome, ruled, err := t.commit(ctx, set)
	if err != nil {
		return nil, err
	}
	if ruled != nil {
		return t.signInRefused(ctx, ruled)
	}
	if err := t.confirm(ctx); err != nil {
		return nil, err
	}
	result := message.SignedIn
	for _, c := range outcome.Claims {
		if c.Collision {
			result = message.RolledBack
		}
	}
	if result == message.RolledBack { // no evidence: it may be an old image of the only terminal, and it has asked where to go on
		t.log.LogAttrs(ctx, slog.LevelWarn, "a terminal was rolled back", slog.String("terminal", string(t.terminal.ID)))
	}
	res, err := t.decide(ctx, result, Code(result.String()))
	if err != nil {
		return nil, err
	}
	res.Status = counterStatus(outcome.Verdict)
	return res, nil
}

// signInRefused tells the terminal why, with the floors that it needs to go on.
func (t *transaction) signInRefused(ctx context.Context, r *Refusal) (*TransactionResult, error) {
	result, err := message.ParseResult(string(r.Code))
	if err != nil {
		result = message.Refused
	}
	return t.decide(ctx, result, r.Code)
}

// signInClaims claims the KSN of the message and of every slot MAC for a sign-in.
func (t *transaction) signInClaims() (ClaimSet, error) {
	version, key, err := t.secrets.Secret(SecretClaim)
	if err != nil {
		return ClaimSet{}, err
	}
	defer key.Wipe()
	p := t.m.Payload
	claim, err := t.macClaim(version, key, PurposeSignIn, p.MAC, t.m.PayloadBytes, t.m.MAC)
	if err != nil {
		return ClaimSet{}, err
	}
	set := t.claimSet()
	set.Claims = append(set.Claims, claim)
	for i := range p.SlotMACs {
		m := p.SlotMACs[i]
		claim, err := t.macClaim(version, key, PurposeSignIn, m.MACRef, message.SignInContent(p, m), m.MAC)
		if err != nil {
			return ClaimSet{}, err
		}
		set.Claims = append(set.Claims, claim)
	}
	return set, nil
}
