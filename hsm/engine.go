package hsm

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Engine returns the token as an engine. It fails with engine.ErrUnavailable while the token is away, and after Close. What
// the token has no mechanism for is dukpt.ErrUnsupported.
func (t *Token) Engine() engine.Engine { return tokenEngine{t} }

// tokenEngine is the engine over a token. A type of its own keeps Begin and its like off the token that commands use.
type tokenEngine struct{ token *Token }

// Begin opens the host side of one transaction.
func (n tokenEngine) Begin(ctx context.Context, base keyset.KeyRef, ksn dukpt.KSN) (engine.HostOps, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var ops engine.HostOps
	err := n.token.use(ctx, func(c *connection, l *lease) error {
		e, err := c.keys.Load().find(base)
		if err != nil {
			return err
		}
		if err := e.begins(ksn); err != nil {
			return err
		}
		if e.info.Labels.KeyMode == engine.Token {
			ops = &inside{token: n.token, base: e.info.ID, environment: e.info.Labels.Environment, ksn: ksn, parent: e.parent, carries: e.info.Labels.PINExposure == engine.None}
			return c.parent(l, n.token.shape, e, ksn, func(object) error { return nil })
		}
		tx, err := e.outside(c, l, ksn)
		ops = &outside{token: n.token, environment: e.info.Labels.Environment, tx: tx}
		return err
	})
	if err != nil {
		return nil, unsupported(err)
	}
	return ops, nil
}

// BeginBatch opens one transaction for each KSN, all or none.
func (n tokenEngine) BeginBatch(ctx context.Context, base keyset.KeyRef, ksns []dukpt.KSN) ([]engine.HostOps, error) {
	info, err := n.Describe(ctx, base) // an empty batch needs its key, too
	if err != nil {
		return nil, err
	}
	if info.Attributes.Usage != keys.UsageBDK {
		return nil, notBase(info)
	}
	out := make([]engine.HostOps, 0, len(ksns))
	for _, ksn := range ksns {
		o, err := n.Begin(ctx, info.ID, ksn)
		if err != nil {
			for _, o := range out {
				o.End()
			}
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// Describe returns what is public about a key.
func (n tokenEngine) Describe(ctx context.Context, ref keyset.KeyRef) (engine.KeyInfo, error) {
	if err := ctx.Err(); err != nil {
		return engine.KeyInfo{}, err
	}
	c, err := n.token.current(ctx)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	e, err := c.keys.Load().find(ref)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	info := e.info
	info.Ref = ref
	return info, nil
}

// Resolve returns the id of the key that ref means now.
func (n tokenEngine) Resolve(ctx context.Context, ref keyset.KeyRef) (keyset.KeyRef, error) {
	info, err := n.Describe(ctx, ref)
	return info.ID, err
}

// Check uses one key after another, call by call; without keys it encrypts under a published one, where the token can.
func (n tokenEngine) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := n.token
	return t.use(ctx, func(c *connection, l *lease) error {
		if err := t.answers(c, l); err != nil {
			return unavailable(err)
		}
		return nil
	})
}

// begins refuses a key that is no base key, or not of the scheme of a KSN.
func (e *entry) begins(ksn dukpt.KSN) error {
	if e.info.Attributes.Usage != keys.UsageBDK {
		return notBase(e.info)
	}
	if e.distributes {
		return fmt.Errorf("%w: %s is for a key-distribution host, not for transactions", engine.ErrUsage, e.info.Ref)
	}
	if ksn.IsZero() {
		return fmt.Errorf("%w: no KSN", dukpt.ErrKSN)
	}
	if inAES := ksn.Scheme() == dukpt.AES; inAES != e.info.Attributes.Algorithm.IsAES() {
		return fmt.Errorf("%w: KSN %s is not of the scheme of %s", engine.ErrUsage, ksn, e.info.Ref)
	}
	return nil
}

func notBase(info engine.KeyInfo) error {
	return fmt.Errorf("%w: %s has usage %s, want %s", engine.ErrUsage, info.Ref, info.Attributes.Usage, keys.UsageBDK)
}

// outside takes the initial key of one terminal out of the token, for one transaction, and wipes it.
func (e *entry) outside(c *connection, l *lease, ksn dukpt.KSN) (*dukpt.HostTransaction, error) {
	ik, err := e.initial(c, l, ksn.KeyID())
	if err != nil {
		return nil, err
	}
	defer ik.Wipe()
	return ik.Begin(ksn)
}

// initial takes the initial key of one terminal out of the token, for the caller to wipe.
func (e *entry) initial(c *connection, l *lease, id dukpt.KeyID) (*dukpt.InitialKey, error) {
	a := e.info.Attributes.Algorithm
	var material []byte
	var err error
	if a.IsTDES() {
		material, err = e.initialTDES(c, l, id)
	} else {
		material, err = e.initialAES(c, l, id)
	}
	defer secret.Wipe(material)
	if err != nil {
		return nil, err
	}
	key, err := keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.Exportable,
	}, material[:a.KeyBytes()])
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return dukpt.NewInitialKey(id, key)
}

// initialTDES encrypts the KSN without its counter under the base key for the left half, and under its variant for the right
// half (X9.24-1:2009, A.6).
func (e *entry) initialTDES(c *connection, l *lease, id dukpt.KeyID) ([]byte, error) {
	m, in := mechanism{code: mechDES3ECB}, id.Append(nil)[:8]
	left, err := c.device.encrypt(l.session, m, e.object, in)
	defer secret.Wipe(left)
	if err := whole(left, len(in), err); err != nil {
		return nil, err
	}
	right, err := c.device.encrypt(l.session, m, e.variant, in)
	defer secret.Wipe(right)
	if err := whole(right, len(in), err); err != nil {
		return nil, err
	}
	return append(append(make([]byte, 0, 16), left...), right...), nil
}

// initialAES encrypts the derivation data of the initial key (X9.24-3:2017, 6.3.1).
func (e *entry) initialAES(c *connection, l *lease, id dukpt.KeyID) ([]byte, error) {
	step, err := id.InitialDerivation(dukpt.WorkingKeyOf(e.info.Attributes.Algorithm))
	if err != nil {
		return nil, err
	}
	material, err := c.device.encrypt(l.session, mechanism{code: mechAESECB}, e.object, step.Data)
	return material, whole(material, len(step.Data), err)
}

// pinKey returns a key for outgoing PIN blocks.
func (v *inventory) pinKey(ref keyset.KeyRef) (*entry, error) {
	e, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	if e.info.Attributes.Usage != keys.UsagePIN {
		return nil, fmt.Errorf("%w: %s has usage %s, want %s", engine.ErrUsage, ref, e.info.Attributes.Usage, keys.UsagePIN)
	}
	return e, nil
}

// zone returns the outgoing PIN key of a translation, for a base key of this environment.
func (v *inventory) zone(ref keyset.KeyRef, env keyset.Environment) (*entry, error) {
	e, err := v.pinKey(ref)
	if err != nil {
		return nil, err
	}
	if e.info.Labels.Environment != env {
		return nil, fmt.Errorf("%w: %s is a %v key, the base key is of %v", engine.ErrUsage, ref, e.info.Labels.Environment, env)
	}
	return e, nil
}
