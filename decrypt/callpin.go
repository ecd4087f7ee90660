package decrypt

import (
	"context"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// PINCall asks to move a PIN from a block of a terminal, or one under a key of fixed value, to one under a zone key.
type PINCall struct {
	Key        CallKey
	WorkingKey dukpt.WorkingKey // zero: as in a transaction, AES-128 under AES
	Block      []byte           // of the terminal; not kept
	Format     pin.Format       // of Block: 0, 3 or 4
	PAN        pin.PAN          // that Block is made with; stays the caller's
	Outgoing   keyset.KeyRef    // zone key, on the list of the caller, and from a terminal on that of the key set
	// OutgoingBlock is the zone key in an X9.143 key block under Outgoing; only from a key of fixed value.
	OutgoingBlock string
	ToFormat      pin.Format
	ToPAN         pin.PAN // equal to PAN
}

// TranslatePIN moves a PIN under a zone key, once: the same again gives the same block, another block or PAN or way under a KSN that
// was used is refused. A block that does not verify claims its content, too: the caller names the PAN, and whoever could try one
// after the other under a KSN would learn digits of the PIN. Errors are a *Refusal.
func (s *Service) TranslatePIN(ctx context.Context, caller Caller, req PINCall) (*CallResult, error) {
	return s.do(ctx, caller, operationPIN, func(c *call) (*CallResult, error) {
		if err := checkPINCall(req); err != nil {
			return nil, err
		}
		if req.Key.fixed() {
			return c.fixedPIN(ctx, req)
		}
		if req.OutgoingBlock != "" {
			return nil, refuse(CodeNotSupported, "a PIN of a terminal goes to a zone key of the inventory, which is on the list of its key set")
		}
		k, err := c.key(ctx, req.Key, keyset.UsagePIN)
		if err != nil {
			return nil, err
		}
		f, err := c.pinField(ctx, k, req)
		if err != nil {
			return nil, err
		}
		defer func() { secret.Wipe(f.result.PINBlock) }()
		unopened := c.translate(ctx, f, f.claim.FillKeyVersion)
		if r, ok := refused(unopened); unopened != nil && (!ok || r.Code != CodePINBlockInvalid) {
			return nil, unopened
		}
		outcome, err := c.commit(ctx, f.claim)
		if err != nil {
			return nil, err
		}
		if unopened != nil {
			c.audited = false // that it was claimed is; that it was refused is a record of its own
			return nil, unopened
		}
		if err := c.repeat(ctx, f, outcome.Claims[0]); err != nil {
			return nil, err
		}
		return c.result(f.result.PINBlock, f.target.resolved, outcome), nil
	})
}

func checkPINCall(req PINCall) error {
	if req.Format != pin.Format0 && req.Format != pin.Format3 && req.Format != pin.Format4 {
		return refuse(CodeNotSupported, "a PIN block of %v is bound to no PAN", req.Format)
	}
	if req.PAN.IsZero() || !req.PAN.Equal(req.ToPAN) {
		return refuse(CodeTranslationNotPermitted, "the two PANs differ")
	}
	if len(req.Block) != req.Format.BlockSize() {
		return refuse(CodeRequestMalformed, "a PIN block of %d bytes, want %d", len(req.Block), req.Format.BlockSize())
	}
	return nil
}

// pinField is the PIN block as a field of a message would be, with its target and its claim.
func (c *call) pinField(ctx context.Context, k *lent, req PINCall) (*openField, error) {
	key, words, err := workingKey(k.set, req.WorkingKey, dukpt.KeyAES128)
	if err != nil {
		return nil, err
	}
	f := &openField{
		field: &message.Field{KSN: k.ksn, Usage: message.UsagePIN, PINFormat: req.Format, Ciphertext: req.Block}, key: k.located, pan: req.PAN, cipher: key,
	}
	f.target.format = req.ToFormat
	if f.target.asked, err = c.zone(ctx, req.Outgoing, k.set); err != nil {
		return nil, err
	}
	if f.target.resolved, err = c.resolve(ctx, f.target.asked); err != nil {
		return nil, err
	}
	if f.claim, err = k.claim(PurposePIN, c.now, Treatment{
		Operation: operationPIN, Derivation: words, FromFormat: req.Format.String(), ToFormat: req.ToFormat.String(),
		OutgoingKey: f.target.asked, Resolved: f.target.resolved.ID,
	}); err != nil {
		return nil, err
	}
	err = c.claimKey(func(version uint32, key secret.Bytes) (err error) {
		f.claim.ClaimKeyVersion = version
		f.claim.Content, err = PINContent(key, k.ksn, req.Block, req.Format, req.PAN)
		return err
	})
	if err != nil {
		return nil, err
	}
	version, fill, err := c.secrets.Secret(SecretFill)
	if err != nil {
		return nil, c.engineFailed(ctx, err)
	}
	fill.Wipe()
	f.claim.FillKeyVersion = version
	return f, nil
}

// zone returns the zone key by the name under which it stands on the lists, when it was asked for by its identifier.
func (c *call) zone(ctx context.Context, asked keyset.KeyRef, set *keyset.KeySet) (keyset.KeyRef, error) {
	if asked.IsZero() {
		return keyset.KeyRef{}, refuse(CodePINKeyNotPermitted, "none was named")
	}
	if asked.IsAlias() {
		return c.caller.outgoing(asked, set)
	}
	for _, listed := range set.OutgoingPINKeys {
		if id, err := c.engine.Resolve(ctx, listed); err == nil && id == asked {
			return c.caller.outgoing(listed, set)
		}
	}
	return c.caller.outgoing(asked, set)
}
