package terminaltest

import (
	"testing"

	"github.com/latchkey-pos/latchkey/terminal/faults"
)

// What befalls a lab's terminal is what package faults has for programs, too.
type (
	FS       = faults.FS
	NetFault = faults.NetFault
	Proxy    = faults.Proxy
)

// The faults of a network.
const (
	Sound    = faults.Sound
	Cut      = faults.Cut
	Reset    = faults.Reset
	Stall    = faults.Stall
	HalfOpen = faults.HalfOpen
	LostUp   = faults.LostUp
	LostDown = faults.LostDown
	Slow     = faults.Slow
	Corrupt  = faults.Corrupt
)

var (
	// ErrPower is what every call to an FS returns once the power is cut.
	ErrPower = faults.ErrPower
	// NetFaults are all faults but Sound.
	NetFaults = faults.NetFaults
)

// NewFS returns an empty medium.
func NewFS() *FS { return faults.NewFS() }

// NewProxy starts a proxy to a server, given as a URL. Its chances are drawn by seed. It stops with the test.
func NewProxy(tb testing.TB, seed uint64, server string) *Proxy {
	tb.Helper()
	p, err := faults.Listen(seed, server)
	check(tb, err)
	tb.Cleanup(func() { _ = p.Close() })
	return p
}
