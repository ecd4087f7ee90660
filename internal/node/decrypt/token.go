package decrypt

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// openToken logs in to the token of the configuration, if there is one, and wants the keys that the configuration names.
func (n *node) openToken(ctx context.Context) error {
	h := n.config.HSM
	if h == nil {
		return nil
	}
	t, err := token.Open(ctx, h, token.Transactions, n.path(h.PINFile), n.log)
	if err != nil {
		return err
	}
	n.token = t
	if err := hasZones(ctx, t.Engine(), n.config.Callers); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	if err := n.carries(ctx); err != nil {
		return err
	}
	if err := t.Report(ctx, n.log); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	return t.Watch(n.metrics.Registry)
}

// hasZones wants the token to have every zone key of the callers.
func hasZones(ctx context.Context, e engine.Engine, callers []CallerConfig) error {
	for _, caller := range callers {
		refs, err := caller.keys()
		if err != nil {
			return err
		}
		for _, ref := range refs {
			switch k, err := e.Describe(ctx, ref); {
			case err != nil:
				return fmt.Errorf("pin-keys of caller %s: %w", caller.Name, err)
			case k.Attributes.Usage != keys.UsagePIN:
				return fmt.Errorf("pin-keys of caller %s: %w: %s has usage %s, want %s", caller.Name, engine.ErrUsage, ref, k.Attributes.Usage, keys.UsagePIN)
			}
		}
	}
	return nil
}

// carries wants PIN blocks to pass with the clear block inside, where the configuration says so, to every zone key of the callers.
func (n *node) carries(ctx context.Context) error {
	if !n.config.HSM.CarryPINs {
		return nil
	}
	var zones []keyset.KeyRef
	for _, caller := range n.config.Callers {
		refs, err := caller.keys()
		if err != nil {
			return err
		}
		zones = append(zones, refs...)
	}
	if err := n.token.CheckCarry(ctx, zones...); err != nil {
		return fmt.Errorf("hsm: carry-pins: %w", err)
	}
	return nil
}
