package hsm

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"
)

// faulty is a token in front of another one: it makes errors, lacks mechanisms, dies and comes back, counts calls and looks at
// what passes. Its restart is one of this token alone: it closes its sessions, so that every handle is void, and leaves the
// module to the other tests.
type faulty struct {
	cryptoki
	gate gate

	mu       sync.Mutex
	calls    map[string]int
	faults   map[string][]error // the errors of the next calls, by name
	lacks    map[uint]bool      // mechanisms
	dead     bool
	says     error // what it says when it is dead; nil: a device error
	absent   bool  // the token is not there when the module starts
	forgets  int   // restarts until it finds objects again
	sessions map[session]map[object]bool
	most     int
	hang     map[string]chan struct{} // calls that wait
	once     map[string]chan struct{} // the next call waits
	hanging  chan string
	secrets  [][]byte // bytes that must not pass
	leaks    []string
	lies     map[string]func([]byte) []byte   // what becomes of the result of a call
	rewrites func(code uint, b []byte) []byte // what becomes of an attribute that is read
	until    int                              // so many calls go well, when there is something in then
	then     error                            // the error of the call after them
}

func newFaulty(c cryptoki) *faulty {
	return &faulty{
		cryptoki: c, calls: map[string]int{}, faults: map[string][]error{}, lacks: map[uint]bool{},
		sessions: map[session]map[object]bool{}, hang: map[string]chan struct{}{}, once: map[string]chan struct{}{}, hanging: make(chan string, 16),
	}
}

// withFaults returns options that put a faulty token in front, and where it will be.
func withFaults(o Options, prepare func(*faulty)) (Options, **faulty) {
	var f *faulty
	o.device = func(c cryptoki) cryptoki {
		f = newFaulty(c)
		if prepare != nil {
			prepare(f)
		}
		return f
	}
	return o, &f
}

// fail has the next calls of a name fail.
func (f *faulty) fail(name string, errs ...error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[name] = append(f.faults[name], errs...)
}

func (f *faulty) die(absent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead, f.absent = true, absent
}

func (f *faulty) revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.absent = false // dead until the module starts again
}

// lie changes the results of all calls of a name from here on; nil: none.
func (f *faulty) lie(name string, change func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies = map[string]func([]byte) []byte{name: change}
}

// rewrite changes every attribute that is read from here on; nil: none.
func (f *faulty) rewrite(change func(code uint, b []byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewrites = change
}

// failAfter has one call fail after so many that go well.
func (f *faulty) failAfter(calls int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until, f.then = calls, err
}

// failed reports whether the fault of failAfter was met.
func (f *faulty) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.then == nil
}

func (f *faulty) count(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}

// live returns the open sessions, the objects made in them, and the most sessions there ever were.
func (f *faulty) live() (sessions, objects, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, made := range f.sessions {
		objects += len(made)
	}
	return len(f.sessions), objects, f.most
}

// before decides the fate of a call.
func (f *faulty) before(name string, code uint, passing ...[]byte) error {
	f.mu.Lock()
	f.calls[name]++
	f.look(name, passing...)
	var err error
	f.until--
	switch queue := f.faults[name]; {
	case f.then != nil && f.until == -1:
		err, f.then = f.then, nil
	case f.dead:
		err = cmp.Or(f.says, error(rvDeviceError))
	case len(queue) > 0:
		err, f.faults[name] = queue[0], queue[1:]
	case code != 0 && f.lacks[code]:
		err = rvMechanism
	}
	wait := f.hang[name]
	if once := f.once[name]; once != nil {
		wait = once
		delete(f.once, name)
	}
	f.mu.Unlock()
	if wait != nil {
		f.hanging <- name
		<-wait
	}
	return err
}

// look notes where a secret passes. The token is locked.
func (f *faulty) look(name string, passing ...[]byte) {
	for _, b := range passing {
		for _, s := range f.secrets {
			if bytes.Contains(b, s) {
				f.leaks = append(f.leaks, fmt.Sprintf("%s passes %X", name, s))
			}
		}
	}
}

func (f *faulty) after(name string, out []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(name, out)
	if lie := f.lies[name]; lie != nil && len(out) > 0 {
		return lie(out)
	}
	return out
}

// made notes a session object.
func (f *faulty) made(s session, o object, err error) (object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.sessions[s] != nil {
		f.sessions[s][o] = true
	}
	return o, err
}

func (f *faulty) generation() uint64       { return f.gate.count() }
func (f *faulty) enter(known uint64) error { return f.gate.enter(known) }
func (f *faulty) leave()                   { f.gate.leave() }

func (f *faulty) restart(known uint64, _ func(string)) error {
	if f.gate.count() != known {
		return nil
	}
	return f.gate.replace(time.Second, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.calls["restart"]++
		for s := range f.sessions {
			_ = f.cryptoki.closeSession(s)
			delete(f.sessions, s)
		}
		if f.absent {
			return ErrNoToken
		}
		f.dead, f.forgets = false, max(f.forgets-1, 0)
		return nil
	})
}

// abandon keeps the module for the other tests: nothing hangs in truth.
func (f *faulty) abandon(error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls["abandon"]++
}

func (f *faulty) login(s session) error {
	if err := f.before("login", 0); err != nil {
		return err
	}
	return f.cryptoki.login(s)
}

func (f *faulty) openSession() (session, error) {
	if err := f.before("openSession", 0); err != nil {
		return 0, err
	}
	s, err := f.cryptoki.openSession()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.sessions[s] = map[object]bool{}
		f.most = max(f.most, len(f.sessions))
	}
	return s, err
}

func (f *faulty) closeSession(s session) error {
	f.mu.Lock()
	_, ours := f.sessions[s]
	delete(f.sessions, s)
	f.calls["closeSession"]++ // it never fails: a module that does not close sessions cannot be helped
	f.mu.Unlock()
	if !ours {
		return rvSessionHandle
	}
	return f.cryptoki.closeSession(s)
}

func (f *faulty) findObjects(s session, template []attribute, most int) ([]object, error) {
	if err := f.before("findObjects", 0); err != nil {
		return nil, err
	}
	f.mu.Lock()
	forgets := f.forgets > 0
	f.mu.Unlock()
	if forgets {
		return nil, nil
	}
	return f.cryptoki.findObjects(s, template, most)
}

func (f *faulty) attributes(s session, o object, codes []uint) ([]attribute, error) {
	if err := f.before("attributes", 0); err != nil {
		return nil, err
	}
	got, err := f.cryptoki.attributes(s, o, codes)
	f.mu.Lock()
	rewrite := f.rewrites
	f.mu.Unlock()
	for i, a := range got {
		got[i].bytes = f.after("attributes", a.bytes)
		if rewrite != nil {
			got[i].bytes = rewrite(a.code, got[i].bytes)
		}
	}
	return got, err
}

func (f *faulty) createObject(s session, template []attribute) (object, error) {
	if err := f.before("createObject", 0); err != nil {
		return 0, err
	}
	o, err := f.cryptoki.createObject(s, template)
	if stays(template) {
		return o, err
	}
	return f.made(s, o, err)
}

func stays(template []attribute) bool {
	for _, a := range template {
		if a.code == attrToken {
			return a.asFlag()
		}
	}
	return false
}

func (f *faulty) copyObject(s session, o object, template []attribute) (object, error) {
	if err := f.before("copyObject", 0); err != nil {
		return 0, err
	}
	c, err := f.cryptoki.copyObject(s, o, template)
	if stays(template) {
		return c, err
	}
	return f.made(s, c, err)
}

func (f *faulty) destroyObject(s session, o object) error {
	if err := f.before("destroyObject", 0); err != nil {
		return err
	}
	err := f.cryptoki.destroyObject(s, o)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		for _, made := range f.sessions {
			delete(made, o)
		}
	}
	return err
}

func (f *faulty) generateKey(s session, m mechanism, template []attribute) (object, error) {
	if err := f.before("generateKey", m.code); err != nil {
		return 0, err
	}
	o, err := f.cryptoki.generateKey(s, m, template)
	return f.made(s, o, err)
}

func (f *faulty) generateKeyPair(s session, m mechanism, public, private []attribute) (object, object, error) {
	if err := f.before("generateKeyPair", m.code); err != nil {
		return 0, 0, err
	}
	a, b, err := f.cryptoki.generateKeyPair(s, m, public, private)
	_, _ = f.made(s, a, err)
	_, _ = f.made(s, b, err)
	return a, b, err
}

func (f *faulty) wrapKey(s session, m mechanism, wrapping, key object) ([]byte, error) {
	if err := f.before("wrapKey", m.code); err != nil {
		return nil, err
	}
	out, err := f.cryptoki.wrapKey(s, m, wrapping, key)
	return f.after("wrapKey", out), err
}

func (f *faulty) unwrapKey(s session, m mechanism, wrapping object, wrapped []byte, template []attribute) (object, error) {
	if err := f.before("unwrapKey", m.code); err != nil {
		return 0, err
	}
	o, err := f.cryptoki.unwrapKey(s, m, wrapping, wrapped, template)
	return f.made(s, o, err)
}

func (f *faulty) deriveKey(s session, m mechanism, base object, template []attribute) (object, error) {
	if err := f.before("deriveKey", m.code, m.data); err != nil {
		return 0, err
	}
	o, err := f.cryptoki.deriveKey(s, m, base, template)
	return f.made(s, o, err)
}

func (f *faulty) encrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	if err := f.before("encrypt", m.code, in, m.iv); err != nil {
		return nil, err
	}
	out, err := f.cryptoki.encrypt(s, m, key, in)
	return f.after("encrypt", out), err
}

func (f *faulty) decrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	if err := f.before("decrypt", m.code, in, m.iv); err != nil {
		return nil, err
	}
	out, err := f.cryptoki.decrypt(s, m, key, in)
	return f.after("decrypt", out), err
}

func (f *faulty) sign(s session, m mechanism, key object, in []byte) ([]byte, error) {
	if err := f.before("sign", m.code, in); err != nil {
		return nil, err
	}
	out, err := f.cryptoki.sign(s, m, key, in)
	return f.after("sign", out), err
}

var errPlanted = errors.New("planted: something else")
