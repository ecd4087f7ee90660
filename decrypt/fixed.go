package decrypt

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// KeyAction is what a key of fixed value is used for in a call. Configurations spell it.
type KeyAction string

// The actions.
const (
	ActionDecrypt       KeyAction = "decrypt-data"
	ActionEncrypt       KeyAction = "encrypt-data"
	ActionReEncryptFrom KeyAction = "re-encrypt-from" // the clear data stays here
	ActionReEncryptTo   KeyAction = "re-encrypt-to"
	ActionTranslateFrom KeyAction = "translate-pin-from"
	ActionTranslateTo   KeyAction = "translate-pin-to" // of keys that come in blocks; those of the inventory stand under Caller.PINKeys
	ActionGenerateMAC   KeyAction = "generate-mac"
	ActionVerifyMAC     KeyAction = "verify-mac"
)

// KeyActions are all actions.
var KeyActions = []KeyAction{
	ActionDecrypt, ActionEncrypt, ActionReEncryptFrom, ActionReEncryptTo, ActionTranslateFrom, ActionTranslateTo, ActionGenerateMAC, ActionVerifyMAC,
}

// KeyGrant permits a caller the use of one key of fixed value.
type KeyGrant struct {
	Key keyset.KeyRef
	For []KeyAction
	// Wraps are the usages of the keys that may come in key blocks under Key, which is for nothing else then. Empty: Key is used itself.
	Wraps []keys.Usage
}

// fixedKey is a key of fixed value that a call uses.
type fixedKey struct {
	engine.FixedOps
	asked keyset.KeyRef
}

// grant returns what the caller may do with a key, by the name or by the identifier that it was asked for.
func (c *call) grant(ctx context.Context, asked keyset.KeyRef, action KeyAction, wraps bool) (*KeyGrant, error) {
	for i := range c.caller.Keys {
		g := &c.caller.Keys[i]
		if !slices.Contains(g.For, action) || (len(g.Wraps) > 0) != wraps {
			continue
		}
		if g.Key == asked {
			return g, nil
		}
		if id, err := c.engine.Resolve(ctx, g.Key); err == nil && id == asked {
			return g, nil
		}
	}
	return nil, refuse(CodeKeyNotPermitted, "%s is not permitted %s with %v", c.caller.Name, action, asked)
}

// fixedKey finds a key of fixed value, of the inventory or in a block under one of it, that the caller may use for an action.
// The refusal is the same whether there is such a key or not, until it is on the list.
func (c *call) fixedKey(ctx context.Context, asked CallKey, action KeyAction) (*fixedKey, error) {
	c.asked = asked
	g, err := c.grant(ctx, asked.Base, action, asked.Block != "")
	if err != nil {
		return nil, err
	}
	var ops engine.FixedOps
	if asked.Block == "" {
		ops, err = c.engine.Open(ctx, asked.Base)
	} else {
		ops, err = c.engine.Unwrap(ctx, asked.Base, asked.Block)
	}
	if err != nil {
		return nil, c.fixedFailed(ctx, asked, err)
	}
	k := &fixedKey{ops, asked.Base}
	c.fixed = append(c.fixed, k)
	if usage := ops.Info().Attributes.Usage; asked.Block != "" && !slices.Contains(g.Wraps, usage) {
		return nil, refuse(CodeKeyNotPermitted, "keys of usage %s do not come under %v", usage, asked.Base)
	}
	return k, nil
}

// fixedFailed turns what went wrong with a key of fixed value into a refusal. What a key block is not is told in one way.
func (c *call) fixedFailed(ctx context.Context, asked CallKey, err error) error {
	switch {
	case errors.Is(err, dukpt.ErrVerify) && asked.Block != "":
		return refuse(CodeKeyBlockInvalid, "under %v", asked.Base)
	case errors.Is(err, engine.ErrKeyNotFound):
		return refuse(CodeKeyNotFound, "%v", asked.Base)
	case errors.Is(err, engine.ErrUsage):
		return refuse(CodeKeyNotPermitted, "the usage, mode or environment of the key is another one: %v", asked.Base)
	case errors.Is(err, dukpt.ErrLength):
		return refuse(CodeRequestMalformed, "data, IV or MAC has a length that does not go with the key")
	case errors.Is(err, dukpt.ErrUnsupported):
		return refuse(CodeNotSupported, "where %v is held", asked.Base)
	}
	return c.engineFailed(ctx, err)
}

// recordFixed adds to an audit record which keys of fixed value a call was about.
func (c *call) recordFixed(r *audit.Record) {
	for i, k := range c.fixed {
		info := k.Info()
		if r.Object != "" {
			r.Object += " "
		}
		r.Object += k.asked.String() + "/" + info.ID.String()
		if i == 0 && len(c.keys) == 0 {
			r.KCV, r.Labels = info.KCV.String(), auditLabels(info.Labels)
		}
	}
}

// fixedResult is what a call without a claim comes to.
func fixedResult(output []byte, key engine.KeyInfo, labels engine.Labels) *CallResult {
	res := &CallResult{Key: key, Labels: labels, Status: CounterNone}
	if len(output) > 0 {
		res.Output = secret.From(output)
	}
	return res
}

// onlyKey is fixedKey for a call under one key, counted for caller and key.
func (c *call) onlyKey(ctx context.Context, asked CallKey, action KeyAction) (*fixedKey, error) {
	if err := c.fixedCall(); err != nil {
		return nil, err
	}
	k, err := c.fixedKey(ctx, asked, action)
	if err != nil {
		return nil, err
	}
	return k, c.fixedUse(k.Info().ID)
}

// fixedData decrypts or encrypts data under a key of fixed value.
func (c *call) fixedData(ctx context.Context, req DataCall, action KeyAction) (*CallResult, error) {
	k, err := c.onlyKey(ctx, req.Key, action)
	if err != nil {
		return nil, err
	}
	out, err := c.fixedCrypt(ctx, k, req, action)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(out)
	return fixedResult(out, k.Info(), k.Info().Labels), nil
}

func (c *call) fixedCrypt(ctx context.Context, k *fixedKey, req DataCall, action KeyAction) ([]byte, error) {
	work := k.Decrypt
	if action == ActionEncrypt || action == ActionReEncryptTo {
		work = k.Encrypt
	}
	out, err := work(nil, engine.CipherSpec{Mode: req.Mode, IV: req.IV}, req.Data)
	if err != nil {
		return nil, c.fixedFailed(ctx, req.Key, err)
	}
	return out, nil
}

// fixedReEncrypt moves data from one key of fixed value to another.
func (c *call) fixedReEncrypt(ctx context.Context, from, to DataCall) (*CallResult, error) {
	if err := c.fixedCall(); err != nil {
		return nil, err
	}
	in, err := c.fixedKey(ctx, from.Key, ActionReEncryptFrom)
	if err != nil {
		return nil, err
	}
	out, err := c.fixedKey(ctx, to.Key, ActionReEncryptTo)
	if err != nil {
		return nil, err
	}
	if in.Info().Labels.Environment != out.Info().Labels.Environment {
		return nil, refuse(CodeEnvironmentMismatch, "%v and %v", from.Key.Base, to.Key.Base)
	}
	if err := c.fixedUse(in.Info().ID, out.Info().ID); err != nil {
		return nil, err
	}
	plain, err := c.fixedCrypt(ctx, in, from, ActionReEncryptFrom)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(plain)
	to.Data = plain
	sealed, err := c.fixedCrypt(ctx, out, to, ActionReEncryptTo)
	if err != nil {
		return nil, err
	}
	return fixedResult(sealed, out.Info(), in.Info().Labels), nil
}

// fixedMAC verifies or makes a MAC under a key of fixed value.
func (c *call) fixedMAC(ctx context.Context, req MACCall, action KeyAction) (*CallResult, error) {
	k, err := c.onlyKey(ctx, req.Key, action)
	if err != nil {
		return nil, err
	}
	spec := engine.FixedMAC{Algorithm: req.Algorithm, Length: req.Length}
	if action == ActionVerifyMAC {
		spec.Length = len(req.MAC)
		err := k.VerifyMAC(spec, req.Message, req.MAC)
		if errors.Is(err, dukpt.ErrVerify) {
			return nil, refuse(CodeMACInvalid, "under %v", req.Key.Base)
		}
		if err != nil {
			return nil, c.fixedFailed(ctx, req.Key, err)
		}
		return fixedResult(nil, k.Info(), k.Info().Labels), nil
	}
	if spec.Length == 0 {
		spec.Length = fullMAC(req.Algorithm, k.Info().Attributes.Algorithm)
	}
	mac, err := k.MAC(nil, spec, req.Message)
	if err != nil {
		return nil, c.fixedFailed(ctx, req.Key, err)
	}
	return fixedResult(mac, k.Info(), k.Info().Labels), nil
}

// fullMAC is the number of bytes of a whole MAC.
func fullMAC(a dukpt.MACAlgorithm, key keys.Algorithm) int {
	switch a {
	case dukpt.MACHMACSHA256:
		return 32
	case dukpt.MACHMACSHA384:
		return 48
	case dukpt.MACHMACSHA512:
		return 64
	}
	if key.IsAES() {
		return 16
	}
	return 8
}

// fixedPIN moves a PIN from a key of fixed value, such as that of another zone, to a zone key of the caller, or one in a block.
func (c *call) fixedPIN(ctx context.Context, req PINCall) (*CallResult, error) {
	if err := pin.CheckTranslation(req.Format, req.ToFormat, false); err != nil {
		return nil, refuse(CodeTranslationNotPermitted, "from %v to %v", req.Format, req.ToFormat)
	}
	if err := c.fixedCall(); err != nil {
		return nil, err
	}
	from, err := c.fixedKey(ctx, req.Key, ActionTranslateFrom)
	if err != nil {
		return nil, err
	}
	out := engine.PINOut{Format: req.ToFormat, PAN: req.ToPAN}
	to, err := c.fixedTarget(ctx, req, &out)
	if err != nil {
		return nil, err
	}
	if in := from.Info(); in.ID == to.ID && in.KCV == to.KCV { // each block that comes of it could be asked about anew
		return nil, refuse(CodeTranslationNotPermitted, "from %v to itself", req.Key.Base)
	}
	if err := c.fixedUse(from.Info().ID); err != nil {
		return nil, err
	}
	if err := c.card(ctx, req.PAN, req.Block); err != nil {
		return nil, err
	}
	if out.Fill, err = c.fixedFill(req, from.Info(), to); err != nil {
		return nil, c.engineFailed(ctx, err)
	}
	block, err := from.TranslatePIN(nil, engine.PINIn{Format: req.Format, PAN: req.PAN, Block: req.Block}, out)
	switch {
	case errors.Is(err, dukpt.ErrVerify):
		return nil, refuse(CodePINBlockInvalid, "under %v", req.Key.Base)
	case errors.Is(err, pin.ErrTranslation), errors.Is(err, dukpt.ErrUnsupported), errors.Is(err, engine.ErrUsage):
		return nil, refuse(CodeTranslationNotPermitted, "from %v under %v to %v under %v", req.Format, req.Key.Base, req.ToFormat, req.Outgoing)
	case err != nil:
		return nil, c.fixedFailed(ctx, req.Key, err)
	}
	defer secret.Wipe(block)
	return fixedResult(block, to, from.Info().Labels), nil
}

// fixedTarget finds the key that a PIN leaves under.
func (c *call) fixedTarget(ctx context.Context, req PINCall, out *engine.PINOut) (engine.KeyInfo, error) {
	if req.OutgoingBlock != "" {
		to, err := c.fixedKey(ctx, CallKey{Base: req.Outgoing, Block: req.OutgoingBlock}, ActionTranslateTo)
		if err != nil {
			return engine.KeyInfo{}, err
		}
		out.Under = to.FixedOps
		return to.Info(), nil
	}
	listed := false
	for _, ref := range c.caller.PINKeys {
		if listed = ref == req.Outgoing; !listed {
			id, err := c.engine.Resolve(ctx, ref)
			listed = err == nil && id == req.Outgoing
		}
		if listed {
			break
		}
	}
	if !listed {
		return engine.KeyInfo{}, refuse(CodePINKeyNotPermitted, "%s is not permitted to use %v", c.caller.Name, req.Outgoing)
	}
	to, err := c.resolve(ctx, req.Outgoing)
	out.Key = to.ID
	return to, err
}

// fixedFill is the fill of an outgoing block, made of all that shapes it: the same call again gives the same block, and whoever asks
// often gets no second sample.
func (c *call) fixedFill(req PINCall, from, to engine.KeyInfo) (fill [8]byte, err error) {
	_, key, err := c.secrets.Secret(SecretFill)
	if err != nil {
		return fill, err
	}
	defer key.Wipe()
	h := hmac.New(sha256.New, key.Expose())
	for _, part := range [][]byte{
		[]byte("fixed"), fmt.Append(nil, from.ID, from.KCV, req.Format), fmt.Append(nil, to.ID, to.KCV, req.ToFormat), req.Block, c.digest[:],
	} {
		h.Write(appendPart(nil, part))
	}
	return [8]byte(h.Sum(nil)[:8]), nil
}
