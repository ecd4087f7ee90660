package decrypt

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// The operations that treatments name.
const (
	operationPIN  = "translate-pin"
	operationData = "decrypt-data"
	operationMAC  = "verify-mac"
)

// release claims what the message uses and then, only then, makes the result of what was opened.
func (t *transaction) release(ctx context.Context) (*TransactionResult, error) {
	set, err := t.messageClaims()
	if err != nil {
		return nil, err
	}
	outcome, ruled, err := t.commit(ctx, set)
	if err != nil {
		return nil, err
	}
	if ruled != nil {
		return t.claimsRefused(ctx, ruled)
	}
	res := t.result(counterStatus(outcome.Verdict))
	for i, f := range t.fields {
		if err := t.repeat(ctx, f, outcome.Claims[i+1]); err != nil {
			return nil, err
		}
		res.Fields = append(res.Fields, f.result)
	}
	if outcome.Answer != nil {
		if res.Recorded, err = t.recorded(ctx, *outcome.Answer); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// commit makes the claims durable, or says by which rule they are refused. The registry may have taken the terminal out since
// the message was looked at, and then nothing is claimed.
func (t *transaction) commit(ctx context.Context, set ClaimSet) (_ ClaimOutcome, ruled *Refusal, err error) {
	if _, err := t.admitted(t.terminal.Tenant, t.terminal.ID, t.m.Payload.Type); err != nil {
		return ClaimOutcome{}, nil, err
	}
	outcome, err := t.store.Claim(ctx, set)
	if r, ok := refused(err); ok && !r.Unavailable() {
		t.audited = true
		t.suspected(ctx, t.terminal.ID, outcome.Evidence)
		return ClaimOutcome{}, r, nil
	}
	if err != nil {
		return ClaimOutcome{}, nil, t.storeFailed(ctx, err)
	}
	t.audited = true
	if len(outcome.Claims) != len(set.Claims) {
		return ClaimOutcome{}, nil, t.storeFailed(ctx, fmt.Errorf("%d results of %d claims", len(outcome.Claims), len(set.Claims)))
	}
	t.used(&set)
	return outcome, nil, nil
}

// claimsRefused answers by itself what a terminal must learn about its KSN, and refuses the rest.
func (t *transaction) claimsRefused(ctx context.Context, r *Refusal) (*TransactionResult, error) {
	switch r.Code {
	case CodeDrainGrantSpent:
		return t.decide(ctx, message.Held, r.Code)
	case CodeKSNSpent:
		return t.decide(ctx, message.KsnSpent, r.Code)
	case CodeKSNTooOld:
		return t.decide(ctx, message.KsnTooOld, r.Code)
	case CodeKSNFenced:
		return t.decide(ctx, message.KsnFenced, r.Code)
	case CodeReversed:
		return t.decide(ctx, message.Reversed, r.Code)
	}
	return nil, r
}

// repeat makes the PIN block of a resend again with the zone key and the fill of the first time, when they have changed
// since.
func (s *Service) repeat(ctx context.Context, f *openField, c ClaimResult) error {
	if c.Verdict != Resend || f.field.Usage != message.UsagePIN {
		return nil
	}
	first, err := ParseTreatment(c.Treatment)
	if err != nil {
		return err
	}
	if first.Resolved == f.target.resolved.ID && c.FillKeyVersion == f.claim.FillKeyVersion {
		return nil
	}
	if f.target.resolved, err = s.resolve(ctx, first.Resolved); err != nil {
		return err
	}
	secret.Wipe(f.result.PINBlock)
	return s.translate(ctx, f, c.FillKeyVersion)
}

// claimSet is the part that all messages have in common.
func (t *transaction) claimSet() ClaimSet {
	return ClaimSet{
		Digest: t.received.Digest(), Original: t.m.Digest(), Tenant: t.terminal.Tenant, Time: t.now,
		Audit: t.record("CLAIMED", ""),
	}
}

// messageClaims is one claim for the MAC of the message, one for each field, and last, for a resend, one for its own MAC.
func (t *transaction) messageClaims() (ClaimSet, error) {
	version, key, err := t.secrets.Secret(SecretClaim)
	if err != nil {
		return ClaimSet{}, err
	}
	defer key.Wipe()
	set := t.claimSet()
	set.Grants = t.grants
	claim, err := t.macClaim(version, key, PurposeMAC, t.m.Payload.MAC, t.m.PayloadBytes, t.m.MAC)
	if err != nil {
		return ClaimSet{}, err
	}
	set.Claims = append(set.Claims, claim)
	for _, f := range t.fields {
		set.Claims = append(set.Claims, f.claim)
	}
	if t.m != t.received {
		claim, err := t.macClaim(version, key, PurposeMAC, t.received.Payload.MAC, t.received.PayloadBytes, t.received.MAC)
		if err != nil {
			return ClaimSet{}, err
		}
		set.Claims = append(set.Claims, claim)
	}
	if set.Closes, err = t.closes(); err != nil {
		return ClaimSet{}, err
	}
	set.Context, err = asked{
		terminal: t.terminal.ID, slot: t.received.Payload.MAC.Slot, ksn: t.received.Payload.MAC.KSN, digests: t.received.Digests(),
	}.marshal()
	return set, err
}

// closes names the message that a reversal takes back. It is one of the same terminal. An original is named by its KSN
// without a slot, so one slot must hold its key: under another base key, another row would be closed.
func (t *transaction) closes() (*Closes, error) {
	p := t.m.Payload
	if p.Type != message.Reversal {
		return nil, nil
	}
	if p.Original.KSN == p.MAC.KSN || p.Original.KSN == t.received.Payload.MAC.KSN {
		return nil, refuse(CodeMessageMalformed, "a reversal of itself")
	}
	var held []keyset.Slot
	for _, slot := range t.terminal.Slots {
		if slot.KeyID == p.Original.KSN.KeyID() {
			held = append(held, slot)
		}
	}
	if len(held) != 1 {
		return nil, refuse(CodeKeyIDMismatch, "the original's KSN %v is of %d slots of terminal %s, want one", p.Original.KSN, len(held), t.terminal.ID)
	}
	set, err := t.keySetOf(t.terminal, held[0])
	if err != nil {
		return nil, err
	}
	return &Closes{BaseKey: set.BaseKeyFingerprint, MACKSN: p.Original.KSN}, nil
}

// macClaim claims the key of a MAC that has verified.
func (t *transaction) macClaim(version uint32, key secret.Bytes, purpose Purpose, ref message.MACRef, msg, mac []byte) (Claim, error) {
	k := t.keys[place{ref.Slot, ref.KSN}]
	content, err := MACContent(key, ref.KSN, purpose, msg, mac)
	if err != nil {
		return Claim{}, err
	}
	padding := ""
	if ref.Padding != 0 {
		padding = ref.Padding.String()
	}
	c, err := t.claim(k, purpose, ref, Treatment{
		Operation: operationMAC, Derivation: derivation(k.set), Variant: ref.Algorithm.String(), Padding: padding,
	})
	c.Content, c.ClaimKeyVersion = content, version
	return c, err
}

// dataClaim claims the key of a field of card data.
func (t *transaction) dataClaim(f *openField) (Claim, error) {
	version, key, err := t.secrets.Secret(SecretClaim)
	if err != nil {
		return Claim{}, err
	}
	defer key.Wipe()
	content, err := DataContent(key, f.field.KSN, f.field.Ciphertext, f.field.IV, f.field.Mode)
	if err != nil {
		return Claim{}, err
	}
	variant := ""
	if f.key.set.Profile != 0 {
		variant = f.key.set.Profile.String()
	}
	c, err := t.claim(f.key, PurposeData, t.m.Payload.MAC, Treatment{
		Operation: operationData, Derivation: derivation(f.key.set), Variant: variant,
	})
	c.Content, c.ClaimKeyVersion = content, version
	return c, err
}

// pinClaim claims the key of a PIN block, whose PAN and target are known.
func (t *transaction) pinClaim(f *openField) (Claim, error) {
	version, key, err := t.secrets.Secret(SecretClaim)
	if err != nil {
		return Claim{}, err
	}
	defer key.Wipe()
	content, err := PINContent(key, f.field.KSN, f.field.Ciphertext, f.field.PINFormat, f.pan)
	if err != nil {
		return Claim{}, err
	}
	c, err := t.claim(f.key, PurposePIN, t.m.Payload.MAC, Treatment{
		Operation: operationPIN, Derivation: derivation(f.key.set),
		FromFormat: f.field.PINFormat.String(), ToFormat: f.target.format.String(),
		OutgoingKey: f.target.asked, Resolved: f.target.resolved.ID,
	})
	c.Content, c.ClaimKeyVersion = content, version
	return c, err
}

// derivation says in words which working keys a set has.
func derivation(set *keyset.KeySet) string {
	if set.Scheme == dukpt.AES {
		return "AES/" + set.WorkingKey().String()
	}
	return set.Scheme.String()
}

// claim is the part that all claims have in common. mac is the MAC that covers the KSN.
func (t *transaction) claim(k *located, purpose Purpose, mac message.MACRef, treatment Treatment) (Claim, error) {
	c, err := k.claim(purpose, t.now, treatment)
	if err == nil && t.evident(mac) {
		c.Authenticated, c.MACKSN = true, mac.KSN
	}
	return c, err
}

// claim is the part of a claim on the key that the key itself decides. The content is left to the caller.
func (k *located) claim(purpose Purpose, now time.Time, treatment Treatment) (Claim, error) {
	encoded, err := treatment.Encode()
	if err != nil {
		return Claim{}, err
	}
	c := Claim{
		BaseKey: k.set.BaseKeyFingerprint, KSN: k.ksn, Purpose: purpose, Treatment: encoded, MaxContents: maxContents(k.set, purpose),
		Floor: k.floor, Horizon: now.Add(-k.set.R),
	}
	if k.set.Counter == keyset.Authenticated {
		c.Windowed, c.W, c.J = true, k.set.W, k.set.J
	}
	return c, nil
}

// evident reports whether a MAC that has verified is long enough to be evidence of the counters that it covers.
func (t *transaction) evident(mac message.MACRef) bool {
	rule := t.keys[place{mac.Slot, mac.KSN}].set.MAC
	return rule.Length >= rule.Evidence
}

// maxContents is how many contents one key may carry for a purpose.
func maxContents(set *keyset.KeySet, purpose Purpose) int {
	switch purpose {
	case PurposeSignIn:
		return MaxSignIns
	case PurposeData:
		return max(1, set.Contents[keyset.UsageData])
	}
	return 1
}

func counterStatus(v Verdict) CounterStatus {
	if v == Resend {
		return CounterResend
	}
	return CounterFresh
}
