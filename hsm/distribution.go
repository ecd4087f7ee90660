package hsm

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Distribution is a token as a key-distribution host works with it: initial keys of terminals come out, and nothing else is
// done. Its base keys are not those of [Token.Engine], although they have the same values in the token of another host: their
// record says for good that they are for distribution, the engine refuses them, and they may encrypt and neither derive nor
// decrypt. Base keys for transactions are refused here. It is safe for concurrent use.
type Distribution struct{ token *Token }

// Distribution returns the token as a key-distribution host works with it.
func (t *Token) Distribution() Distribution { return Distribution{t} }

// Import puts a base key for distribution into the token under a new alias, as Token.Import does one for transactions.
func (d Distribution) Import(ctx context.Context, ref keyset.KeyRef, k keys.Key, env keyset.Environment) (engine.KeyInfo, error) {
	return d.token.take(ctx, ref, k, env, true)
}

// Keys returns what is public about every base key for distribution, by name.
func (d Distribution) Keys(ctx context.Context) ([]engine.KeyInfo, error) {
	c, err := d.token.current(ctx)
	if err != nil {
		return nil, err
	}
	var out []engine.KeyInfo
	for _, e := range c.keys.Load().list() {
		if e.distributes {
			out = append(out, e.info)
		}
	}
	return out, nil
}

// InitialKey takes the initial key of one terminal out of the token into host memory. The caller wipes it. Errors wrap
// engine.ErrKeyNotFound, engine.ErrUsage (no base key, one for transactions, or one of another scheme), engine.ErrUnavailable
// or the context's.
func (d Distribution) InitialKey(ctx context.Context, base keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out *dukpt.InitialKey
	err := d.token.use(ctx, func(c *connection, l *lease) error {
		e, err := c.keys.Load().find(base)
		if err != nil {
			return err
		}
		if err := e.gives(id); err != nil {
			return err
		}
		out, err = e.initial(c, l, id)
		return err
	})
	if err != nil {
		return nil, unsupported(err)
	}
	return out, nil
}

// gives refuses a key that no initial key comes out of, or that is not of the scheme of a key id.
func (e *entry) gives(id dukpt.KeyID) error {
	if e.info.Attributes.Usage != keys.UsageBDK {
		return notBase(e.info)
	}
	if !e.distributes {
		return fmt.Errorf("%w: %s is for transactions, and gives no initial key", engine.ErrUsage, e.info.Ref)
	}
	if id.IsZero() {
		return fmt.Errorf("%w: no key id", dukpt.ErrKSN)
	}
	if inAES := id.Scheme() == dukpt.AES; inAES != e.info.Attributes.Algorithm.IsAES() {
		return fmt.Errorf("%w: key id %s is not of the scheme of %s", engine.ErrUsage, id, e.info.Ref)
	}
	return nil
}
