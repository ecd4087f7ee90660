package hsm

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Options adjust a token. The zero value of each field means what stands beside it.
type Options struct {
	Sessions     int           // sessions that work at the same time; 0: 4
	Owners       int           // further sessions, which own the keys that are kept; 0: 2
	Wait         time.Duration // how long an operation waits for a session or for the token to come back; 0: 5 s
	Patience     time.Duration // how long a call into the module may take, and a reconnect waits for calls under way; 0: 10 s
	CacheObjects int           // derived keys kept in the token for the next transactions; 0: 4096, negative: none
	// CarryPINs has PIN blocks of base keys in mode token pass from key to key as wrapped keys, where the token has shown that it
	// can ([CheckBlockWrap]): the clear block stays inside. Nobody looks at it then: a block that does not open becomes one that
	// does not open, and only the issuer notices. Formats do not change, the fill of format 4 stays the terminal's, and zone keys
	// that are loaded meanwhile may wrap, too; under others nothing is translated.
	CarryPINs bool
	// OneCall are the mechanisms of a maker for TDES DUKPT, used where the token shows that they are right. Nil: none are tried, and
	// base keys that were loaded for them are refused.
	OneCall  *OneCall
	FinalTry bool // log in although one more wrong PIN would lock the token
	Clock    func() time.Time
	Log      *slog.Logger // events, never with secrets; nil: none
	// Stuck is called once when a call into the module has not returned within Patience. The token answers nothing from then on: the
	// program should end, and be started again, because nothing can be done to such a call, and whoever made it waits with it. All
	// others wait no longer than Wait. Nil: nothing is called.
	Stuck func()

	device   func(cryptoki) cryptoki // tests put theirs around the bridge
	watching func(*watch)            // tests get hold of it before a token is open
	arrived  func()                  // tests are told when nothing is done for Open any more
	call     time.Duration           // how long a call may take; tests have another than Patience
	opening  time.Duration           // and one that loads, initialises, lists or finalises the module
}

const (
	maxSessions = 256
	maxCached   = 1 << 20

	defaultPatience = 10 * time.Second
	defaultOpening  = time.Minute // makers' modules look for devices that are away, one after the other
)

func (o Options) filled() (Options, error) {
	if o.Sessions == 0 {
		o.Sessions = 4
	}
	if o.Owners == 0 {
		o.Owners = 2
	}
	if o.Wait == 0 {
		o.Wait = 5 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.call == 0 {
		o.call = o.Patience
	}
	if o.opening == 0 {
		o.opening = max(defaultOpening, o.call)
	}
	if o.CacheObjects == 0 {
		o.CacheObjects = 4096
	}
	o.CacheObjects = max(o.CacheObjects, 0)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Stuck == nil {
		o.Stuck = func() {}
	}
	if o.watching == nil {
		o.watching = func(*watch) {}
	}
	if o.arrived == nil {
		o.arrived = func() {}
	}
	if o.device == nil {
		o.device = func(c cryptoki) cryptoki { return c }
	}
	if o.Sessions < 1 || o.Sessions > maxSessions || o.Owners < 1 || o.Owners > maxSessions || o.Wait < 0 || o.Patience < 0 || o.CacheObjects > maxCached {
		return o, fmt.Errorf("hsm: options out of range: 1 to %d sessions, no time below zero, at most %d cached keys", maxSessions, maxCached)
	}
	return o, nil
}

// The first and the longest pause between two attempts to reconnect.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 3 * time.Second
)

// pause returns how long to wait after so many attempts in a row that failed: twice as long each time, at most maxPause, and
// a random half of it less, so that many hosts do not come back at once.
func pause(failures int) time.Duration {
	p := maxPause
	if failures < 6 {
		p = min(maxPause, firstPause<<failures)
	}
	return p/2 + rand.N(p/2+1)
}
