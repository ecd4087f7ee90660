package decrypt

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// reEncryptForTerminal moves data from a key of fixed value to the response key of a KSN, which carries one content.
func (c *call) reEncryptForTerminal(ctx context.Context, from, to DataCall) (*CallResult, error) {
	if err := c.fixedCall(); err != nil {
		return nil, err
	}
	in, err := c.fixedKey(ctx, from.Key, ActionReEncryptFrom)
	if err != nil {
		return nil, err
	}
	out, err := c.key(ctx, to.Key, keyset.UsageData)
	if err != nil {
		return nil, err
	}
	if in.Info().Labels.Environment != out.info.Labels.Environment {
		return nil, refuse(CodeEnvironmentMismatch, "%v and %v", from.Key.Base, to.Key.Base)
	}
	if err := c.fixedUse(in.Info().ID); err != nil {
		return nil, err
	}
	plain, err := c.fixedCrypt(ctx, in, from, ActionReEncryptFrom)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(plain)
	to.Data = plain
	sealed, made, err := c.encrypted(ctx, out, to)
	if err != nil {
		return nil, err
	}
	outcome, err := c.commit(ctx, made)
	if err != nil {
		return nil, err
	}
	return c.result(sealed, out.info, outcome), nil
}

// reEncryptOfTerminal moves data of a terminal to a key of fixed value. It is claimed as what it is, with the key that it goes to: the
// same again is answered alike, also when the name of the key means another version by then.
func (c *call) reEncryptOfTerminal(ctx context.Context, from, to DataCall) (*CallResult, error) {
	if err := c.fixedCall(); err != nil {
		return nil, err
	}
	in, err := c.key(ctx, from.Key, keyset.UsageData)
	if err != nil {
		return nil, err
	}
	out, err := c.fixedKey(ctx, to.Key, ActionReEncryptTo)
	if err != nil {
		return nil, err
	}
	if in.info.Labels.Environment != out.Info().Labels.Environment {
		return nil, refuse(CodeEnvironmentMismatch, "%v and %v", from.Key.Base, to.Key.Base)
	}
	if err := c.fixedUse(out.Info().ID); err != nil {
		return nil, err
	}
	plain, claim, err := c.decrypted(ctx, in, from)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(plain)
	to.Data = plain
	sealed, err := c.fixedCrypt(ctx, out, to, ActionReEncryptTo)
	if err != nil {
		return nil, err
	}
	if claim.Treatment, err = toFixed(claim.Treatment, out, to); err != nil {
		return nil, err
	}
	outcome, err := c.commit(ctx, claim)
	if err != nil {
		return nil, err
	}
	first, err := ParseTreatment(outcome.Claims[0].Treatment)
	if err != nil {
		return nil, err
	}
	if first.Resolved == out.Info().ID {
		return c.result(sealed, out.Info(), outcome), nil
	}
	before, err := c.engine.Open(ctx, first.Resolved) // an older version of a key that the caller may use
	if err != nil {
		return nil, c.fixedFailed(ctx, to.Key, err)
	}
	earlier := &fixedKey{before, to.Key.Base}
	c.fixed = append(c.fixed, earlier)
	if sealed, err = c.fixedCrypt(ctx, earlier, to, ActionReEncryptTo); err != nil {
		return nil, err
	}
	return c.result(sealed, before.Info(), outcome), nil
}

// toFixed is the treatment of data that goes on under a key of fixed value. A key that came in a block is told by its check value.
func toFixed(encoded []byte, out *fixedKey, to DataCall) ([]byte, error) {
	t, err := ParseTreatment(encoded)
	if err != nil {
		return nil, err
	}
	t.Operation, t.OutgoingKey, t.Resolved = operationReEncrypt, to.Key.Base, out.Info().ID
	words := []string{"fixed", to.Mode.String(), hex.EncodeToString(to.IV)}
	if to.Key.Block != "" {
		words = append(words, "wrapped", out.Info().KCV.String())
	}
	t.ToFormat = strings.Join(words, "/")
	return t.Encode()
}
