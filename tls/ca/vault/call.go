package vault

import (
	"context"
	"net/http"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// request is one call of the library.
type request func(ctx context.Context, c *api.Client) (*api.Secret, error)

// call asks Vault: when there is a seat, while the breaker lets callers through, with a token, and for so long only. The
// error is that of ctx, or an *Unavailable, which wraps what Vault answered.
func (i *Issuer) call(ctx context.Context, what string, f request) (*api.Secret, error) {
	if err := i.sit(ctx); err != nil {
		return nil, err
	}
	defer i.rise()
	if wait, ok := i.breaker.enter(); !ok && !planted.On(planted.VaultRelentless) {
		return nil, later(wait, nil, "Vault has failed %d times in a row; nobody asks it for %v", tolerated, wait.Round(time.Second))
	}
	begun := i.options.Clock()
	noted, note := withNote(ctx)
	limited, cancel := context.WithTimeout(noted, 2*i.options.Timeout) // with a login, or two
	defer cancel()
	answer, err := i.authorized(limited, f)
	i.options.Observe(what, i.options.Clock().Sub(begun), err)
	switch {
	case err == nil:
		i.breaker.left(false)
		return answer, nil
	case ctx.Err() != nil:
		i.breaker.abandoned()
		return nil, ctx.Err()
	case !failure(err):
		i.breaker.left(false)
		return nil, later(roleWait, err, "%s", describe(what, err))
	}
	i.breaker.left(true)
	return nil, later(time.Duration(note.Load()), err, "%s", describe(what, err))
}

// sit waits for a seat: so many calls at once, and no more. Who gets none in time comes again later.
func (i *Issuer) sit(ctx context.Context) error {
	if err := ctx.Err(); err != nil || planted.On(planted.VaultUnseated) {
		return err
	}
	select {
	case i.seats <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(i.options.Timeout)
	defer timer.Stop()
	select {
	case i.seats <- struct{}{}:
		return nil
	case <-timer.C:
		return later(shortWait, nil, "%d calls are with Vault already, and none has come back for %v", cap(i.seats), i.options.Timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rise gives a seat back.
func (i *Issuer) rise() {
	if !planted.On(planted.VaultUnseated) {
		<-i.seats
	}
}

// authorized asks with the token of the session. A token that Vault refuses may have been revoked a moment ago: then it is
// asked once more, after a new login. A refusal has changed nothing, so that is safe for everything.
func (i *Issuer) authorized(ctx context.Context, f request) (*api.Secret, error) {
	for again := false; ; again = true {
		count, err := i.session.ensure(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := i.bounded(ctx, f)
		if again || status(err) != http.StatusForbidden {
			return answer, err
		}
		i.session.lost(count)
	}
}

func (i *Issuer) bounded(ctx context.Context, f request) (*api.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, i.options.Timeout)
	defer cancel()
	return f(ctx, i.session.client)
}
