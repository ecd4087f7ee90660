package decrypt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
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
	if first.Resolved == out.Info().ID || to.Key.Block != "" { // the treatments are equal: it is the key of the first time, whatever it came under
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

// toFixed is the treatment of data that goes on under a key of fixed value. A key that came in a block is told by its value: it has no
// name, and the key that it came under may be another one the next time.
func toFixed(encoded []byte, out *fixedKey, to DataCall) ([]byte, error) {
	t, err := ParseTreatment(encoded)
	if err != nil {
		return nil, err
	}
	t.Operation, t.OutgoingKey = operationReEncrypt, to.Key.Base
	words := []string{"fixed", to.Mode.String(), hex.EncodeToString(to.IV)}
	if to.Key.Block == "" {
		t.Resolved = out.Info().ID
	} else {
		tag, err := valueTag(out)
		if err != nil {
			return nil, err
		}
		words = append(words, "wrapped", hex.EncodeToString(tag[:]))
	}
	t.ToFormat = strings.Join(words, "/")
	return t.Encode()
}

// valueTag tells the value of a key that encrypts, and nothing of it. A check value is too short for that: among some thousands of keys two
// have the same.
func valueTag(k engine.FixedOps) (tag [16]byte, err error) {
	var known [32]byte // different blocks, so that all bits of a key of TDES count
	for i := range known {
		known[i] = byte(i)
	}
	sealed, err := k.Encrypt(nil, engine.CipherSpec{Mode: dukpt.ECB}, known[:])
	if err != nil {
		return tag, err
	}
	sum := sha256.Sum256(append([]byte("latchkey/fixed-key/"), sealed...))
	return [16]byte(sum[:]), nil
}
