package hsm

import (
	"context"
	"crypto"
	"io"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// watch is a token whose calls into the module have a deadline. Nothing can be done to a call that does not return, and whoever
// made it waits with it; but it is noticed, once, whatever else goes on, so that the others need not find out.
type watch struct {
	cryptoki
	patience time.Duration
	slow     time.Duration     // beyond patience, for calls that are told by steps: a module may look for its devices for a while
	late     func(call string) // called once when a call is under way for longer than patience
	now      func() time.Time

	mu     sync.Mutex
	next   uint64
	calls  map[uint64]underWay
	timer  *time.Timer // that looks for late ones
	due    time.Time   // when it does; zero: it need not
	missed bool        // late was called, or need not be any more
}

// underWay is a call that has not returned.
type underWay struct {
	name  string    // of PKCS#11
	began time.Time // for one that is told by steps later by what it has beyond patience
}

func newWatch(c cryptoki, patience time.Duration, late func(call string)) *watch {
	return &watch{cryptoki: c, patience: patience, late: late, now: time.Now, calls: map[uint64]underWay{}}
}

// begin notes a call, which has so much time beyond patience.
func (w *watch) begin(name string, more time.Duration) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	now := w.now()
	w.calls[w.next] = underWay{name, now.Add(more)}
	if due := now.Add(more + w.patience); !w.missed && (w.due.IsZero() || due.Before(w.due)) {
		w.arm(now, due)
	}
	return w.next
}

// arm has the calls looked at when the first of them would be late: a short one does not wait for a slow one before it. The watch is
// locked.
func (w *watch) arm(now, due time.Time) {
	w.due = due
	after := due.Sub(now)
	if w.timer == nil {
		w.timer = time.AfterFunc(after, w.look)
		return
	}
	w.timer.Reset(after)
}

func (w *watch) end(call uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.calls, call)
}

// oldest returns how long the oldest call has been under way, 0 for none.
func (w *watch) oldest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	return max(now.Sub(w.first(now).began), 0)
}

// at returns the name of the oldest call under way, "" for none.
func (w *watch) at() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first(w.now()).name
}

// first returns the oldest call under way; where there is none, one without a name that begins now. The watch is locked.
func (w *watch) first(now time.Time) underWay {
	first := underWay{began: now}
	for _, c := range w.calls {
		if first.name == "" || c.began.Before(first.began) {
			first = c
		}
	}
	return first
}

// look calls late when a call is. It comes again as long as there are calls.
func (w *watch) look() {
	w.mu.Lock()
	now := w.now()
	first := w.first(now)
	w.due = time.Time{}
	late := first.name != "" && now.Sub(first.began) >= w.patience && !w.missed && !planted.On(planted.CallsUnwatched)
	switch {
	case late:
		w.missed = true
	case first.name != "" && !w.missed:
		w.arm(now, first.began.Add(w.patience))
	}
	w.mu.Unlock()
	if late {
		w.late(first.name)
	}
}

// stepping watches what is told call by call: each ends where the next one begins. So what it waits for in between, which is no
// call, has no deadline.
func (w *watch) stepping(step func(call string)) (watched func(call string), end func()) {
	var under uint64 // 0: none
	return func(call string) {
		w.end(under)
		under = 0
		if call != "" {
			under = w.begin(call, w.slow)
		}
		step(call)
	}, func() { w.end(under) }
}

func (w *watch) attach(ctx context.Context, step func(call string)) error {
	watched, end := w.stepping(step)
	defer end()
	return w.cryptoki.attach(ctx, watched)
}

func (w *watch) close(step func(call string)) {
	watched, end := w.stepping(step)
	w.cryptoki.close(watched)
	end()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) restart(known uint64, step func(call string)) error {
	watched, end := w.stepping(step)
	defer end()
	return w.cryptoki.restart(known, watched)
}

func (w *watch) login(s session) error {
	defer w.end(w.begin("C_Login", 0))
	return w.cryptoki.login(s)
}

func (w *watch) info() (tokenInfo, error) {
	defer w.end(w.begin("C_GetTokenInfo", 0))
	return w.cryptoki.info()
}

func (w *watch) openSession() (session, error) {
	defer w.end(w.begin("C_OpenSession", 0))
	return w.cryptoki.openSession()
}

func (w *watch) closeSession(s session) error {
	defer w.end(w.begin("C_CloseSession", 0))
	return w.cryptoki.closeSession(s)
}

func (w *watch) findObjects(s session, template []attribute, most int) ([]object, error) {
	defer w.end(w.begin("C_FindObjects", 0))
	return w.cryptoki.findObjects(s, template, most)
}

func (w *watch) attributes(s session, o object, types []uint) ([]attribute, error) {
	defer w.end(w.begin("C_GetAttributeValue", 0))
	return w.cryptoki.attributes(s, o, types)
}

func (w *watch) createObject(s session, template []attribute) (object, error) {
	defer w.end(w.begin("C_CreateObject", 0))
	return w.cryptoki.createObject(s, template)
}

func (w *watch) copyObject(s session, o object, template []attribute) (object, error) {
	defer w.end(w.begin("C_CopyObject", 0))
	return w.cryptoki.copyObject(s, o, template)
}

func (w *watch) destroyObject(s session, o object) error {
	defer w.end(w.begin("C_DestroyObject", 0))
	return w.cryptoki.destroyObject(s, o)
}

func (w *watch) generateKey(s session, m mechanism, template []attribute) (object, error) {
	defer w.end(w.begin("C_GenerateKey", 0))
	return w.cryptoki.generateKey(s, m, template)
}

func (w *watch) generateKeyPair(s session, m mechanism, public, private []attribute) (object, object, error) {
	defer w.end(w.begin("C_GenerateKeyPair", 0))
	return w.cryptoki.generateKeyPair(s, m, public, private)
}

func (w *watch) deriveKey(s session, m mechanism, base object, template []attribute) (object, error) {
	defer w.end(w.begin("C_DeriveKey", 0))
	return w.cryptoki.deriveKey(s, m, base, template)
}

func (w *watch) encrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	defer w.end(w.begin("C_Encrypt", 0))
	return w.cryptoki.encrypt(s, m, key, in)
}

func (w *watch) decrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	defer w.end(w.begin("C_Decrypt", 0))
	return w.cryptoki.decrypt(s, m, key, in)
}

func (w *watch) sign(s session, m mechanism, key object, in []byte) ([]byte, error) {
	defer w.end(w.begin("C_Sign", 0))
	return w.cryptoki.sign(s, m, key, in)
}

func (w *watch) wrapKey(s session, m mechanism, wrapping, key object) ([]byte, error) {
	defer w.end(w.begin("C_WrapKey", 0))
	return w.cryptoki.wrapKey(s, m, wrapping, key)
}

func (w *watch) unwrapKey(s session, m mechanism, wrapping object, wrapped []byte, template []attribute) (object, error) {
	defer w.end(w.begin("C_UnwrapKey", 0))
	return w.cryptoki.unwrapKey(s, m, wrapping, wrapped, template)
}

func (w *watch) signer(label, id []byte) (crypto.Signer, error) {
	defer w.end(w.begin("C_FindObjects", 0))
	found, err := w.cryptoki.signer(label, id)
	if err != nil {
		return nil, err
	}
	return watchedSigner{found, w}, nil
}

// watchedSigner is a signer whose calls have the deadline, too.
type watchedSigner struct {
	crypto.Signer
	watch *watch
}

// Sign signs a digest.
func (s watchedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer s.watch.end(s.watch.begin("C_Sign", 0))
	return s.Signer.Sign(rand, digest, opts)
}
