//go:build cgo && !nohsm

package hsm

/*
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Built says whether this program has the bridge to PKCS#11 modules.
const Built = true

// library is a module: one for each path in a process, because C_Initialize and C_Finalize are of the process.
type library struct {
	path string // what the first path led to: where it leads to another file later, that is another library
	gate gate

	turn    turn        // of who loads, initialises or finalises the module, or changes its members
	ctx     *pkcs11.Ctx // nil while it is not loaded
	members map[*bridge]struct{}
	apart   time.Duration // between two restarts for one of several tokens: a dead one shall not take the others along all the time

	abandoned sync.Once
	dead      chan struct{} // closed when a call into the module does not return
	why       error         // then: which one

	// split says that crypto11 and ctx have each a module of their own behind the one path, with its own logins and connections:
	// p11-kit-client.so makes another one for whoever asks for its functions.
	split atomic.Bool
}

// restartsApart is how often one of several tokens of a module may have it started anew.
const restartsApart = 30 * time.Second

// libraries are the modules that were ever used, by what their paths lead to: a module that was abandoned must not come in again by
// another name. The mutex is not held while one is called.
var (
	librariesMu sync.Mutex
	libraries   = map[string]*library{}
)

// libraryOf returns the library of a path, which has a file.
func libraryOf(path string) (*library, error) {
	if _, err := os.Stat(path); err != nil { // dlopen would look for other names elsewhere
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	leads, err := filepath.EvalSymlinks(path)
	if err == nil {
		leads, err = filepath.Abs(leads)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	librariesMu.Lock()
	defer librariesMu.Unlock()
	l := libraries[leads]
	if l == nil {
		l = &library{path: leads, turn: newTurn(), members: map[*bridge]struct{}{}, apart: restartsApart, dead: make(chan struct{})}
		libraries[leads] = l
	}
	return l, nil
}

// take waits for the turn. Whoever has it calls the module, and is watched: it gives it back, or the library is abandoned.
func (l *library) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-l.dead:
		return l.why
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-l.dead: // a call that came back too late gives the turn, too
		l.turn.give()
		return l.why
	default:
		return nil
	}
}

// abandon refuses the module to whoever asks for it from here on. What is in it stays, and so does who uses it.
func (l *library) abandon(why error) {
	if planted.On(planted.ModuleReopened) {
		return
	}
	l.abandoned.Do(func() {
		l.why = fmt.Errorf("%w, in module %s, which is not used any more in this process", why, l.path)
		close(l.dead)
	})
}

// bridge is one token of a library.
type bridge struct {
	library  *library
	uri      URI
	pin      secret.Bytes // the caller's
	patience time.Duration
	tries    bool // log in although one more wrong PIN would lock the token
	closed   sync.Once
	born     uint64 // the count of the gate of the library when it joined: its generations are those since

	restarted time.Time // in the turn of the library: when it last had the module started anew

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

// newDevice returns the bridge to the token that a URI names. The module is not called yet. The caller keeps the PIN until it has
// closed the token.
func newDevice(u URI, pin secret.Bytes, o Options) (cryptoki, error) {
	l, err := libraryOf(u.Module())
	if err != nil {
		return nil, err
	}
	return &bridge{library: l, uri: u, pin: pin, patience: o.Patience, tries: o.FinalTry}, nil
}

// findModule returns the module of a path.
func findModule(path string) (module, error) {
	l, err := libraryOf(path)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (b *bridge) attach(ctx context.Context, step func(call string)) error {
	l := b.library
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.turn.give()
	err := l.load(step)
	if err == nil {
		err = l.join(b, step)
	}
	l.release(step)
	return err
}

func (b *bridge) abandon(why error) { b.library.abandon(why) }

// load has the module in memory. It has no members yet, or is initialised. It is the caller's turn.
func (l *library) load(step func(call string)) error {
	if l.ctx != nil {
		return nil
	}
	step("dlopen")
	l.ctx = pkcs11.New(l.path)
	if l.ctx == nil {
		return fmt.Errorf("%w: %s is no PKCS#11 module", ErrModule, l.path)
	}
	step("C_GetFunctionList")
	if err := functions(l.path); err != nil {
		l.ctx.Destroy()
		l.ctx = nil
		return fmt.Errorf("%w: %s gives no functions: %w", ErrModule, l.path, err)
	}
	return nil
}

// join finds the token of a bridge and adds it. It is the caller's turn.
func (l *library) join(b *bridge, step func(call string)) error {
	if len(l.members) == 0 {
		// crypto11 has to initialise the module, or it fails; it wants to know the slot before.
		step("C_Initialize")
		if err := convert(l.ctx.Initialize()); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrModule, l.path, err)
		}
	}
	step("C_GetSlotList or C_GetTokenInfo")
	info, err := l.find(b.uri)
	if len(l.members) == 0 {
		step("C_Finalize")
		_ = l.ctx.Finalize() // what matters is whether crypto11 can initialise it again
	}
	if err == nil {
		b.slot = info.slot
		step("C_Initialize or C_OpenSession")
		err = l.attach(b)
	}
	if err != nil {
		return err
	}
	l.members[b], b.born = struct{}{}, l.gate.count()
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
	attached := l.attach(b)
	if attached != nil && !errors.Is(attached, ErrNoToken) { // that the slot has none says nothing of the others
		return attached
	}
	info, err := l.seek(b.uri)
	if err == nil && info.slot == b.currentSlot() && attached == nil {
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

// seek finds a token in a module that is initialised, or is for as long as this takes. It is the caller's turn.
func (l *library) seek(u URI) (tokenInfo, error) {
	switch err := convert(l.ctx.Initialize()); {
	case err == nil:
		defer func() { _ = l.ctx.Finalize() }() // what matters is whether crypto11 can initialise it again
	case !errors.Is(err, rvInitialized):
		return tokenInfo{}, err
	}
	return l.find(u)
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

// release unloads a library that nobody uses. It is the caller's turn.
func (l *library) release(step func(call string)) {
	if len(l.members) > 0 || l.ctx == nil {
		return
	}
	step("C_Finalize")
	l.finalizeSplit()
	step("dlclose")
	l.ctx.Destroy()
	l.ctx = nil
}

// finalizeSplit finalises the module that crypto11 does not, if there is one. It is the caller's turn.
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

func (l *library) list(ctx context.Context, step func(call string)) ([]tokenInfo, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer l.turn.give()
	if err := l.load(step); err != nil {
		return nil, err
	}
	defer l.release(step)
	if len(l.members) == 0 {
		step("C_Initialize")
		if err := convert(l.ctx.Initialize()); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrModule, l.path, err)
		}
		defer func() {
			step("C_Finalize")
			_ = l.ctx.Finalize() // the list is made
		}()
	}
	step("C_GetSlotList or C_GetTokenInfo")
	return l.tokens()
}

// restart finalises the module, when no call is under way in any of its tokens, and initialises it again. It does nothing when
// somebody else has done so since the caller looked, or when this token has, not long ago, and others use the module.
func (b *bridge) restart(known uint64, step func(call string)) error {
	l := b.library
	if err := l.take(context.Background()); err != nil {
		return err
	}
	defer l.turn.give()
	if b.generation() != known || len(l.members) > 1 && time.Since(b.restarted) < l.apart {
		return nil
	}
	b.restarted = time.Now()
	step("C_Finalize, C_Initialize or C_OpenSession") // and first those under way, which have a time of their own
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

func (b *bridge) generation() uint64       { return b.library.gate.count() - b.born }
func (b *bridge) enter(known uint64) error { return b.library.gate.enter(known + b.born) }
func (b *bridge) leave()                   { b.library.gate.leave() }

// close lets go of the token. The sessions of the caller are closed already.
func (b *bridge) close(step func(call string)) {
	b.closed.Do(func() {
		l := b.library
		if err := l.take(context.Background()); err != nil {
			return // the module is left as it is
		}
		defer l.turn.give()
		if _, joined := l.members[b]; !joined {
			return
		}
		step("C_CloseSession or C_Finalize")
		b.detach()
		delete(l.members, b)
		l.release(step)
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
