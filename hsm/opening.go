package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Open logs in to the one token that a URI names, finds out what it can do, and reads which keys it holds. It keeps a copy of
// the PIN, to log in again with; the caller wipes its own. Errors are those of this package; none is repaired.
//
// It returns when ctx ends. A module that does not return from a call within Options.Patience, or within a minute while it is loaded,
// initialised, or asked for its tokens, is refused from then on, with ErrStuck and the name of the call, here and in every other Open of
// this process; its calls may go on in the background.
func Open(ctx context.Context, u URI, pin secret.Bytes, o Options) (*Token, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	if u.Module() == "" {
		return nil, fmt.Errorf("%w: a module-path is missing", ErrURI)
	}
	if pin.IsZero() {
		return nil, fmt.Errorf("%w: there is none", ErrPIN)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := &Token{uri: u, pin: pin.Clone(), options: o, loading: newTurn(), stuck: make(chan struct{})}
	device, err := newDevice(u, t.pin, o)
	if err != nil {
		t.pin.Wipe()
		return nil, err
	}
	t.watch = newWatch(o.device(device), o.call, t.giveUp)
	t.watch.slow = o.opening - o.call
	t.device = t.watch
	o.watching(t.watch)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opened := make(chan error)
	t.again.Add(1)
	go t.arrive(ctx, opened)
	select {
	case err := <-opened:
		if err != nil {
			return nil, err
		}
		return t, nil
	case <-t.stuck:
		return nil, t.stuckBy
	case <-ctx.Done():
		return nil, broken(ctx, t.watch)
	}
}

// arrive opens the token for who waits at opened, and closes it where nobody does any more. It may never return: it makes the calls.
func (t *Token) arrive(ctx context.Context, opened chan<- error) {
	defer t.options.arrived()
	err := t.start(ctx)
	t.again.Done()
	if err != nil {
		_ = t.Close() // the error that counts is the other one
	}
	switch classify(err) {
	case classSession, classLogin, classLost, classBusy:
		err = unavailable(err)
	}
	select {
	case opened <- err:
	case <-ctx.Done():
		_ = t.Close() // nobody is there to be told
	}
}

// start finds the token, makes the first connection and probes the token.
func (t *Token) start(ctx context.Context) error {
	if err := t.device.attach(ctx, func(string) {}); err != nil {
		return err
	}
	return t.gate.replace(0, func() error {
		c, err := t.connect(ctx, nil, nil)
		t.connection, t.since = c, t.options.Clock()
		return err
	})
}

// broken says in which call a context ended. Too long a wait is one for a token that cannot work now.
func broken(ctx context.Context, w *watch) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		err = unavailable(err)
	}
	if call := w.at(); call != "" {
		return fmt.Errorf("hsm: the module has not answered %s: %w", call, err)
	}
	return fmt.Errorf("hsm: the token was not opened in time: %w", err)
}

// TokenInfo is what a token says of itself before anybody logs in.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string
	module                             string
}

// Tokens lists the tokens of a module that are initialised. Nobody is logged in. A module that does not answer ends it as it ends Open.
func Tokens(ctx context.Context, module string) ([]TokenInfo, error) {
	all, err := listTokens(ctx, module, defaultOpening)
	if err != nil {
		return nil, err
	}
	var out []TokenInfo
	for _, t := range all {
		if t.flags&flagInitialized != 0 {
			out = append(out, TokenInfo{t.label, t.manufacturer, t.model, t.serial, module})
		}
	}
	return out, nil
}

// Find returns the one token that a URI names, with its module. Nobody is logged in. Errors wrap ErrNoToken, ErrAmbiguous,
// ErrURI, ErrModule, ErrStuck or ErrNoBridge.
func Find(ctx context.Context, u URI) (TokenInfo, error) {
	if u.Module() == "" {
		return TokenInfo{}, fmt.Errorf("%w: a module-path is missing", ErrURI)
	}
	all, err := listTokens(ctx, u.Module(), defaultOpening)
	if err != nil {
		return TokenInfo{}, err
	}
	t, err := u.choose(all)
	if err != nil {
		return TokenInfo{}, err
	}
	return TokenInfo{t.label, t.manufacturer, t.model, t.serial, u.Module()}, nil
}

// listTokens asks a module for its tokens, with the patience for each call.
func listTokens(ctx context.Context, path string, patience time.Duration) ([]tokenInfo, error) {
	m, err := findModule(path)
	if err != nil {
		return nil, err
	}
	stuck := make(chan error, 1)
	w := newWatch(nil, patience, func(call string) {
		why := stuckIn(call)
		m.abandon(why)
		stuck <- why // there is one
	})
	var all []tokenInfo
	listed := make(chan error, 1)
	go func() {
		step, end := w.stepping(func(string) {})
		defer end()
		var err error
		all, err = m.list(ctx, step)
		listed <- err
	}()
	select {
	case err := <-listed:
		return all, err
	case why := <-stuck:
		return nil, why
	case <-ctx.Done():
		return nil, broken(ctx, w)
	}
}

// URI returns a URI that means this token and no other, as long as serials are what they should be.
func (i TokenInfo) URI() URI {
	var u URI
	u.path[atToken], u.path[atSerial], u.module = value{true, i.Label}, value{true, i.Serial}, value{true, i.module}
	return u
}
