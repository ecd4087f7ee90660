//go:build cgo && !nohsm

package hsm

/*
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Built says whether this program has the bridge to PKCS#11 modules.
const Built = true

// library is a module that is loaded: one for each path in a process, because C_Initialize and C_Finalize are of the process.
type library struct {
	path string
	ctx  *pkcs11.Ctx
	gate gate

	mu      sync.Mutex // held while the module is initialised, finalised, or its members change
	members map[*bridge]struct{}
	apart   time.Duration // between two restarts for one of several tokens: a dead one shall not take the others along all the time

	// split says that crypto11 and ctx have each a module of their own behind the one path, with its own logins and connections:
	// p11-kit-client.so makes another one for whoever asks for its functions.
	split atomic.Bool
}

// restartsApart is how often one of several tokens of a module may have it started anew.
const restartsApart = 30 * time.Second

// libraries are the modules in use. The mutex is held while one is loaded or let go of.
var (
	librariesMu sync.Mutex
	libraries   = map[string]*library{}
)

// bridge is one token of a library.
type bridge struct {
	library  *library
	uri      URI
	pin      secret.Bytes // the caller's
	patience time.Duration
	tries    bool // log in although one more wrong PIN would lock the token
	closed   sync.Once

	restarted time.Time // under the mutex of the library: when it last had the module started anew

	mu      sync.Mutex
	slot    uint
	context *crypto11.Context // nil after a restart that did not find the token
	refused error             // the PIN was refused: it is not tried again
}

// The sessions that crypto11 may open: one keeps the login, the others sign.
const (
	signingSessions = 4
	signingWait     = 5 * time.Second
)

// openModule finds the token that a URI names and makes it ready, without login. The caller keeps the PIN until it has closed
// the token.
func openModule(u URI, pin secret.Bytes, o Options) (cryptoki, error) {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	l, err := load(u.Module())
	if err != nil {
		return nil, err
	}
	b := &bridge{library: l, uri: u, pin: pin, patience: o.Patience, tries: o.FinalTry}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.join(b); err != nil {
		l.release()
		return nil, err
	}
	return b, nil
}

// load returns the library of a path. It has no members yet, or is initialised.
func load(path string) (*library, error) {
	if l := libraries[path]; l != nil {
		return l, nil
	}
	if _, err := os.Stat(path); err != nil { // dlopen would look for other names elsewhere
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("%w: %s is no PKCS#11 module", ErrModule, path)
	}
	l := &library{path: path, ctx: ctx, members: map[*bridge]struct{}{}, apart: restartsApart}
	libraries[path] = l
	return l, nil
}

// join finds the token of a bridge and adds it. The library is locked, and so are the libraries.
func (l *library) join(b *bridge) error {
	if len(l.members) == 0 {
		// crypto11 has to initialise the module, or it fails; it wants to know the slot before.
		if err := convert(l.ctx.Initialize()); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrModule, l.path, err)
		}
	}
	info, err := l.find(b.uri)
	if len(l.members) == 0 {
		_ = l.ctx.Finalize() // what matters is whether crypto11 can initialise it again
	}
	if err == nil {
		b.slot = info.slot
		err = l.attach(b)
	}
	if err != nil {
		return err
	}
	l.members[b] = struct{}{}
	return nil
}

// attach has crypto11 open the token of a bridge, and initialise the module if it is the first, and then joins it.
func (l *library) attach(b *bridge) error {
	context, err := b.configure(crypto11.Config{LoginNotSupported: true}) // the bridge logs in, and watches its tries
	if err != nil {
		return err
	}
	switch err := convert(l.ctx.Initialize()); {
	case err == nil:
		l.split.Store(true) // crypto11 has initialised another one
	case !errors.Is(err, rvInitialized):
		_ = context.Close() // the other error counts
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.context = context
	return nil
}

// configure has crypto11 open the token.
func (b *bridge) configure(c crypto11.Config) (*crypto11.Context, error) {
	slot := int(b.slot)
	c.Path, c.SlotNumber, c.MaxSessions, c.PoolWaitTimeout = b.library.path, &slot, signingSessions, signingWait
	context, err := crypto11.Configure(&c)
	return context, convert(err)
}

// again attaches a token after a restart, in the slot where it is now: makers number slots as they please.
func (l *library) again(b *bridge) error {
	if err := l.attach(b); err != nil {
		return err
	}
	info, err := l.find(b.uri)
	if err == nil && info.slot == b.currentSlot() {
		return nil
	}
	b.detach()
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.slot = info.slot
	b.mu.Unlock()
	return l.attach(b)
}

// detach closes what crypto11 has of a token. The last one of a library finalises the module.
func (b *bridge) detach() {
	b.mu.Lock()
	context := b.context
	b.context = nil
	b.mu.Unlock()
	if context != nil {
		_ = context.Close() // it cannot fail
	}
}

// release unloads a library that nobody uses. It is locked, and so are the libraries.
func (l *library) release() {
	if len(l.members) == 0 {
		delete(libraries, l.path)
		l.finalizeSplit()
		l.ctx.Destroy()
	}
}

// finalizeSplit finalises the module that crypto11 does not, if there is one. The library is locked.
func (l *library) finalizeSplit() {
	if l.split.Swap(false) {
		_ = l.ctx.Finalize() // what matters is whether it can be initialised again
	}
}

// tokens returns the tokens that are there.
func (l *library) tokens() ([]tokenInfo, error) {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return nil, convert(err)
	}
	var all []tokenInfo
	for _, slot := range slots {
		info, err := l.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // a token that cannot say what it is is none that a URI names
		}
		all = append(all, tokenInfo{
			slot: slot, label: info.Label, manufacturer: info.ManufacturerID, model: info.Model, serial: info.SerialNumber, flags: info.Flags,
		})
	}
	return all, nil
}

// find returns the one token that a URI names.
func (l *library) find(u URI) (tokenInfo, error) {
	all, err := l.tokens()
	if err != nil {
		return tokenInfo{}, err
	}
	return u.choose(all)
}

// listModule returns the tokens of a module that nobody need be logged in to.
func listModule(path string) ([]tokenInfo, error) {
	librariesMu.Lock()
	defer librariesMu.Unlock()
	l, err := load(path)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.release()
	if len(l.members) == 0 {
		if err := convert(l.ctx.Initialize()); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrModule, path, err)
		}
		defer func() { _ = l.ctx.Finalize() }() // the list is made
	}
	return l.tokens()
}

// restart finalises the module, when no call is under way in any of its tokens, and initialises it again. It does nothing when
// somebody else has done so since the caller looked, or when this token has, not long ago, and others use the module.
func (b *bridge) restart(known uint64) error {
	l := b.library
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate.count() != known || len(l.members) > 1 && time.Since(b.restarted) < l.apart {
		return nil
	}
	b.restarted = time.Now()
	return l.gate.replace(b.patience, func() error {
		for m := range l.members {
			m.detach()
		}
		l.finalizeSplit()
		var own error
		for m := range l.members {
			if err := l.again(m); err != nil && m == b {
				own = err
			}
		}
		return own
	})
}

func (b *bridge) generation() uint64       { return b.library.gate.count() }
func (b *bridge) enter(known uint64) error { return b.library.gate.enter(known) }
func (b *bridge) leave()                   { b.library.gate.leave() }

// close lets go of the token. The sessions of the caller are closed already.
func (b *bridge) close() {
	b.closed.Do(func() {
		librariesMu.Lock()
		defer librariesMu.Unlock()
		l := b.library
		l.mu.Lock()
		defer l.mu.Unlock()
		b.detach()
		delete(l.members, b)
		l.release()
	})
}

// States of a session in which the user is logged in (CKS_).
const (
	stateReadUser  = 1
	stateWriteUser = 3
)

// login logs in where nobody is. A PIN that was refused is not tried again.
func (b *bridge) login(s session) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused != nil {
		return b.refused
	}
	state, err := b.library.ctx.GetSessionInfo(pkcs11.SessionHandle(s))
	if err != nil {
		return convert(err)
	}
	if state.State == stateReadUser || state.State == stateWriteUser {
		return nil
	}
	info, err := b.library.ctx.GetTokenInfo(b.slot)
	if err != nil {
		return convert(err)
	}
	if b.refused = mayTry(info.Flags, b.tries); b.refused != nil {
		return b.refused
	}
	err = convert(b.library.ctx.Login(pkcs11.SessionHandle(s), pkcs11.CKU_USER, string(b.pin.Expose())))
	if errors.Is(err, rvUserAlreadyIn) {
		err = nil
	}
	if err == nil && b.library.split.Load() {
		err = b.loginSplit()
	}
	if err != nil && classify(err) == classPIN {
		b.refused = fmt.Errorf("%w: %w", ErrPIN, err)
		return b.refused
	}
	return err
}

// loginSplit logs crypto11 in by itself, with a PIN that the token has just taken. The bridge is locked.
func (b *bridge) loginSplit() error {
	if b.context != nil {
		_ = b.context.Close() // it cannot fail
		b.context = nil
	}
	context, err := b.configure(crypto11.Config{Pin: string(b.pin.Expose())})
	b.context = context
	return err
}

func (b *bridge) info() (tokenInfo, error) { return b.library.find(b.uri) }

func (b *bridge) currentSlot() uint {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slot
}

// convert turns an error of the libraries into a return value of the module.
func convert(err error) error {
	if err == nil {
		return nil
	}
	if code, ok := errors.AsType[pkcs11.Error](err); ok {
		return rv(code)
	}
	if err.Error() == noTokenText {
		return ErrNoToken
	}
	return fmt.Errorf("hsm: %w", err)
}

// noTokenText is what crypto11 says when the token is away. The error itself is not exported.
const noTokenText = "could not find PKCS#11 token"
