//go:build cgo && testengine && !core

package main

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/enginetest"
	"github.com/latchkey-pos/latchkey/terminal/sealertest"
)

// TestEngineInC has a secure processor in C do what every engine of a terminal must do.
func TestEngineInC(t *testing.T) {
	enginetest.Run(t, func(t *testing.T, slots []terminal.BundleSlot) enginetest.Device {
		p := newProcessor()
		t.Cleanup(p.free)
		for _, s := range slots {
			ik, err := s.InitialKey()
			if err != nil {
				t.Fatal(err)
			}
			if err := p.load(s.Slot, ik); err != nil {
				t.Fatal(err)
			}
		}
		return enginetest.Device{Open: func([]terminal.Slot) (terminal.Engine, error) { return p.start() }}
	})
}

// TestSealerInC is the same for a sealer.
func TestSealerInC(t *testing.T) {
	var number atomic.Uint32
	sealertest.Run(t, func(t *testing.T) sealertest.Device {
		d := newSealerDevice(uint8(number.Add(1)))
		t.Cleanup(d.free)
		return sealertest.Device{Open: func(t *testing.T) terminal.Sealer {
			s, err := d.open()
			if err != nil {
				t.Fatal(err)
			}
			return s
		}}
	})
}

// TestWildEngine has an engine break every promise: nothing of what it says is believed, and nothing is read that is not there.
func TestWildEngine(t *testing.T) {
	e, err := startWild()
	if err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[uint8]error{1: errEngine, 2: errEngine, 3: dukpt.ErrKSN} {
		if ksn, err := e.Begin(slot); !errors.Is(err, want) {
			t.Errorf("Begin of slot %d: %v, %v, want %v", slot, ksn, err, want)
		}
	}
	for _, slot := range []uint8{1, 2} {
		dst := []byte("before")
		pinned, pinErr := e.EncryptPIN(slot, dst, pin.Format4, pin.PIN{}, pin.PAN{})
		sealed, dataErr := e.EncryptData(slot, dst, dukpt.AES.DefaultData(), make([]byte, 16))
		mac, macErr := e.MAC(slot, dst, dukpt.AES.DefaultMAC(), nil)
		for i, err := range []error{pinErr, dataErr, macErr} {
			if !errors.Is(err, errEngine) {
				t.Errorf("slot %d, output %d: %v, want LK_ENGINE", slot, i, err)
			}
		}
		if len(pinned)+len(sealed)+len(mac) != 3*len(dst) {
			t.Errorf("slot %d: outputs of calls that failed: %q %q %q", slot, pinned, sealed, mac)
		}
	}
	for name, err := range map[string]error{
		"verify": e.VerifyResponse(1, dukpt.AES.DefaultMAC(), nil, nil), "replace": e.Switch(1), "zeroize": e.Zeroize(),
		"skip": e.SkipTo(1, dukpt.KSN{}),
	} {
		if !errors.Is(err, errEngine) {
			t.Errorf("%s: %v, want LK_ENGINE", name, err)
		}
	}
	if all := e.Status(); len(all) != 0 {
		t.Errorf("status %+v, of keys that none has", all)
	}
}

// TestForgetfulEngine has an engine set no size, be in the wrong order in the midst of a call, and leave keys out of its list.
func TestForgetfulEngine(t *testing.T) {
	e, err := startForgetful()
	if err != nil {
		t.Fatal(err)
	}
	for slot, also := range map[uint8]error{1: errEngine, 2: terminal.ErrNoTransaction, 3: dukpt.ErrLength} {
		_, beginErr := e.Begin(slot)
		_, pinErr := e.EncryptPIN(slot, nil, pin.Format4, pin.PIN{}, pin.PAN{})
		_, dataErr := e.EncryptData(slot, nil, dukpt.AES.DefaultData(), make([]byte, 16))
		_, macErr := e.MAC(slot, nil, dukpt.AES.DefaultMAC(), nil)
		for i, err := range []error{beginErr, pinErr, dataErr, macErr} {
			if codeOf(err) != errEngine || !errors.Is(err, also) {
				t.Errorf("slot %d, call %d: %v is %d, want LK_ENGINE and %v", slot, i, err, int(codeOf(err)), also)
			}
		}
	}
	var slots []uint8
	for _, s := range e.Status() {
		slots = append(slots, s.Slot)
	}
	if !slices.Equal(slots, []uint8{1, 3, 4}) {
		t.Errorf("status describes %v, want 1, 3 and 4", slots)
	}
}

// TestForgetfulSealer has a sealer set no size, or one that cannot be: what it has written is lost, or was never there.
func TestForgetfulSealer(t *testing.T) {
	plain := make([]byte, 100)
	for name, c := range map[string]struct {
		says       bool
		n          int
		seal, open bool // whether that is believed
	}{
		"nothing said": {false, 0, false, false}, "no bytes": {true, 0, false, true}, "one byte": {true, 1, true, true},
		"all but one that open has room for": {true, 99, true, true}, "all that open has room for": {true, 100, true, false},
		"all that a sealer may add": {true, 356, true, false}, "more": {true, 357, false, false}, "far more": {true, 1 << 30, false, false},
	} {
		s, err := forgetfulSealer(c.says, c.n)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := s.Seal("label", plain)
		if (err == nil) != c.seal || err == nil && len(sealed) != c.n || err != nil && !errors.Is(err, errEngine) {
			t.Errorf("%s: %d bytes sealed, %v", name, len(sealed), err)
		}
		opened, err := s.Open("label", plain)
		if (err == nil) != c.open || err == nil && opened.Len() != c.n || err != nil && !errors.Is(err, errEngine) {
			t.Errorf("%s: %d bytes opened, %v", name, opened.Len(), err)
		}
		opened.Wipe()
	}
}
