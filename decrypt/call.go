package decrypt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// CallKey names the key of a call: a transaction key by a base key of the inventory and a KSN; without a KSN a key of fixed value, of the
// inventory or in a key block. It is comparable.
type CallKey struct {
	Base  keyset.KeyRef // base key; without a KSN the key itself, or with Block the key that the block is under
	KSN   dukpt.KSN
	Block string // X9.143 key block; only without a KSN
}

// fixed reports whether the key has one value for all calls.
func (k CallKey) fixed() bool { return k.KSN.IsZero() }

// CallResult is what a call gave, released after its claims are durable. The caller wipes it.
type CallResult struct {
	Output        secret.Bytes   // clear data, ciphertext, PIN block or MAC; empty after VerifyMAC
	Key           engine.KeyInfo // of the key that Output is under, or that opened it
	Labels        engine.Labels  // of the base key of the terminal, or of the incoming key of fixed value
	Status        CounterStatus  // CounterNone without a KSN: nothing was claimed, and the same call may be made again
	Authenticated bool           // a MAC that is evidence of the counter has verified in this very call
}

// Wipe empties the output.
func (r *CallResult) Wipe() { r.Output.Wipe() }

// call is the work on one operation outside of any message: on what a host has taken out of a message of its own format.
// Nothing tells who sent that but the KSN, so there is no MAC first and what is released is not authenticated; everything
// else is as in a transaction, and both make the same claims.
type call struct {
	*Service
	caller  Caller
	action  string
	now     time.Time
	asked   CallKey // that is looked for, so that a refusal can name it
	keys    []*lent
	fixed   []*fixedKey
	digest  message.Digest // of what is claimed; zero before
	audited bool
}

// lent is a key that a call uses, with the terminal that it is of.
type lent struct {
	*located
	terminal *keyset.Terminal
}

// do runs one call. Errors are a *Refusal.
func (s *Service) do(ctx context.Context, caller Caller, action string, work func(*call) (*CallResult, error)) (*CallResult, error) {
	c := &call{Service: s, caller: caller, action: action, now: s.clock()}
	defer c.end()
	res, err := c.start(ctx, work)
	if err != nil {
		return nil, s.settled(ctx, err, c.audited, c.record)
	}
	return res, nil
}

func (c *call) start(ctx context.Context, work func(*call) (*CallResult, error)) (*CallResult, error) {
	if err := c.caller.Check(); err != nil {
		return nil, err
	}
	res, err := work(c)
	if err != nil || len(c.keys) > 0 { // with a KSN the store has recorded it with the claims
		return res, err
	}
	if err := c.store.Audit(ctx, c.record(CounterNone.String(), "")); err != nil {
		res.Wipe()
		return nil, c.storeFailed(ctx, err)
	}
	return res, nil
}

func (c *call) end() {
	for _, k := range c.keys {
		if k.ops != nil {
			k.ops.End()
		}
	}
	for _, k := range c.fixed {
		k.End()
	}
}

// record is the audit record of this call. It is about the first key.
func (c *call) record(result string, code Code) audit.Record {
	r := audit.Record{
		Time: c.clock(), Instance: c.instance, Actor: c.caller.Name, Role: c.caller.Role, Tenant: string(c.caller.Tenant),
		Source: c.caller.Source, Action: c.action, Result: result, Reason: string(code), Digest: c.digest,
	}
	switch {
	case len(c.keys) > 0:
	case !c.asked.KSN.IsZero():
		r.Object = c.asked.KSN.String()
	case len(c.fixed) == 0 && !c.asked.Base.IsZero():
		r.Object = c.asked.Base.String()
	}
	for i, k := range c.keys {
		at := string(k.terminal.ID) + "/" + k.ksn.String()
		if i > 0 {
			r.Object += " " + at
			continue
		}
		r.Object, r.KCV, r.Labels = at, k.info.KCV.String(), auditLabels(k.info.Labels)
	}
	c.recordFixed(&r)
	return r
}

// key finds the terminal and the key set of a transaction key and derives it. The set must serve the usage on this path.
func (c *call) key(ctx context.Context, asked CallKey, usage keyset.Usage) (*lent, error) {
	c.asked = asked
	info, err := c.resolve(ctx, asked.Base)
	if err != nil {
		return nil, err
	}
	if info.Attributes.Usage != keys.UsageBDK {
		return nil, refuse(CodeNotSupported, "%v has usage %s, and is used with a KSN like a key of usage %s", asked.Base, info.Attributes.Usage, keys.UsageBDK)
	}
	set, ok := c.catalog.KeySetOver(info.Fingerprint, asked.KSN.KeyID())
	if !ok || set.Tenant != c.caller.Tenant {
		return nil, refuse(CodeKeySetUnknown, "no key set over %v holds KSN %v", asked.Base, asked.KSN)
	}
	if err := checkSet(set, info, usage); err != nil {
		return nil, err
	}
	k, err := c.holder(set, asked.KSN)
	if err != nil {
		return nil, err
	}
	k.info = info
	if err := c.limits.terminal(k.terminal, c.now); err != nil {
		return nil, err
	}
	c.keys = append(c.keys, k)
	k.ops, err = c.engine.Begin(ctx, info.ID, asked.KSN)
	if errors.Is(err, engine.ErrUsage) || errors.Is(err, dukpt.ErrUnsupported) {
		return nil, refuse(CodeNotSupported, "KSN %v under %v", asked.KSN, asked.Base)
	}
	if err != nil {
		return nil, c.engineFailed(ctx, err)
	}
	return k, nil
}

// checkSet refuses sets that are not for calls, not in use, or not for the usage.
func checkSet(set *keyset.KeySet, info engine.KeyInfo, usage keyset.Usage) error {
	switch {
	case set.Paths != keyset.AWS && set.Paths != keyset.Both:
		return refuse(CodePathNotPermitted, "key set %s", set.ID)
	case set.Environment != info.Labels.Environment:
		return refuse(CodeEnvironmentMismatch, "key set %s is %v, its base key is %v", set.ID, set.Environment, info.Labels.Environment)
	case !set.State.Permits(keyset.Repeat):
		return refuse(CodeKeySetRetired, "key set %s", set.ID)
	case !set.State.Permits(keyset.Process):
		return refuse(CodeKeySetBlocked, "key set %s", set.ID)
	case !set.Has(usage):
		return refuse(CodePurposeNotPermitted, "key set %s does not serve %v", set.ID, usage)
	}
	return nil
}

// holder finds the terminal that has a key of the set. It is one that may use it now: there is no ack that would tell it to wait.
func (c *call) holder(set *keyset.KeySet, ksn dukpt.KSN) (*lent, error) {
	if c.registry != nil && c.registry.Current() != nil {
		return nil, refuse(CodeRegistryStale, "KSN %v", ksn)
	}
	terminal, ok := c.catalog.Holder(set.Tenant, set.ID, ksn.KeyID())
	if !ok {
		return nil, refuse(CodeTerminalUnknown, "no terminal has a key of KSN %v", ksn)
	}
	if err := usable(terminal); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(terminal.Slots, func(s keyset.Slot) bool { return s.KeySet == set.ID && s.KeyID == ksn.KeyID() })
	if at < 0 {
		return nil, refuse(CodeKeyIDMismatch, "KSN %v is not of a key of terminal %s", ksn, terminal.ID)
	}
	slot := terminal.Slots[at]
	if err := checkSlot(slot, message.Sale); err != nil {
		return nil, err
	}
	return &lent{&located{place: place{slot.Slot, ksn}, state: slot.State, floor: slot.Floor, set: set}, terminal}, nil
}

// usable refuses terminals that get nothing new.
func usable(terminal *keyset.Terminal) error {
	switch terminal.Status {
	case keyset.StatusBlocked:
		return refuse(CodeTerminalBlocked, "terminal %s", terminal.ID)
	case keyset.StatusQuarantined:
		return refuse(CodeTerminalQuarantined, "terminal %s", terminal.ID)
	}
	return checkStatus(terminal, message.Sale)
}

// commit makes the claims of the call durable, or says by which rule they are refused. The registry may have taken a terminal
// out since it was looked at, and then nothing is claimed.
func (c *call) commit(ctx context.Context, claims ...Claim) (ClaimOutcome, error) {
	for _, k := range c.keys {
		if set, ok := c.catalog.KeySet(k.set.ID); !ok || !set.State.Permits(keyset.Process) {
			return ClaimOutcome{}, refuse(CodeKeySetBlocked, "key set %s", k.set.ID)
		}
		if _, err := c.holder(k.set, k.ksn); err != nil {
			return ClaimOutcome{}, err
		}
	}
	c.digest = callDigest(claims)
	set := ClaimSet{
		Digest: c.digest, Original: c.digest, Tenant: c.caller.Tenant, Time: c.now, Claims: claims, Audit: c.record("CLAIMED", ""),
	}
	outcome, err := c.store.Claim(ctx, set)
	if r, ok := refused(err); ok && !r.Unavailable() {
		c.audited = true
		c.suspected(ctx, c.keys[0].terminal.ID, outcome.Evidence)
		return ClaimOutcome{}, r
	}
	if err != nil {
		return ClaimOutcome{}, c.storeFailed(ctx, err)
	}
	c.audited = true
	if len(outcome.Claims) != len(claims) {
		return ClaimOutcome{}, c.storeFailed(ctx, fmt.Errorf("%d results of %d claims", len(outcome.Claims), len(claims)))
	}
	if c.registry != nil {
		for _, k := range c.keys {
			c.registry.Used(k.use(k.terminal, &set))
		}
	}
	return outcome, nil
}

// callDigest stands for the digest of a message: the same contents under the same keys have the same.
func callDigest(claims []Claim) message.Digest {
	h := sha256.New()
	h.Write([]byte("latchkey-call-1"))
	for i := range claims {
		c := &claims[i]
		h.Write(appendPart(appendPart(appendPart(nil, []byte(c.BaseKey.String())), []byte(c.Purpose.String())), c.Content[:]))
	}
	return message.Digest(h.Sum(nil))
}

// result is what a call with one claim or more comes to.
func (c *call) result(output []byte, key engine.KeyInfo, outcome ClaimOutcome) *CallResult {
	res := &CallResult{Key: key, Labels: c.keys[0].info.Labels, Status: counterStatus(outcome.Verdict)}
	if len(output) > 0 {
		res.Output = secret.From(output)
	}
	return res
}

// claimKey gives the current claim key to f and wipes it.
func (s *Service) claimKey(f func(version uint32, key secret.Bytes) error) error {
	version, key, err := s.secrets.Secret(SecretClaim)
	if err != nil {
		return err
	}
	defer key.Wipe()
	return f(version, key)
}

// operationFailed tells what is wrong with the attributes of a call from an engine that does not work.
func (c *call) operationFailed(ctx context.Context, k *lent, err error) error {
	switch {
	case errors.Is(err, dukpt.ErrLength):
		return refuse(CodeRequestMalformed, "data, IV or MAC under KSN %v has a length that does not go with the key", k.ksn)
	case errors.Is(err, dukpt.ErrUnsupported):
		return refuse(CodeNotSupported, "these attributes under KSN %v", k.ksn)
	case errors.Is(err, dukpt.ErrStrength):
		return refuse(CodeNotSupported, "a working key that is stronger than %v", k.info.Ref)
	}
	return c.engineFailed(ctx, err)
}

// workingKey is the working key that was asked for, or the one of the set, with the words for its treatment. They are those of
// a transaction when the key is.
func workingKey(set *keyset.KeySet, asked, own dukpt.WorkingKey) (dukpt.WorkingKey, string, error) {
	if set.Scheme == dukpt.TDES {
		if asked != 0 && asked != dukpt.KeyTDES2 {
			return 0, "", refuse(CodeNotSupported, "key set %s derives %v keys, %v was asked for", set.ID, dukpt.KeyTDES2, asked)
		}
		return 0, derivation(set), nil
	}
	if asked == 0 || asked == own {
		return own, derivation(set), nil
	}
	return asked, "AES/as-asked/" + asked.String(), nil // the words of no transaction, whose key depends on the purpose
}
