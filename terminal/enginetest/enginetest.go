// Package enginetest holds what every terminal.Engine must do, as tests that any implementation runs.
package enginetest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
)

// MaxJump is the jump that the slots of the suite allow.
const MaxJump = 1000

// Device is one device under test with keys in it.
type Device struct {
	// Open starts the engine, as after power was lost: the engine before it is not used any more and was not closed.
	Open func() (terminal.Engine, error)
	// Keypad says that the engine takes PINs by itself.
	Keypad bool
}

// Load puts the keys of the slots into a fresh device.
type Load func(t *testing.T, slots []terminal.BundleSlot) Device

// Run runs the suite. Each test loads a device of its own.
func Run(t *testing.T, load Load) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Load, *rig)
	}{
		{"HostAgrees", testHostAgrees},
		{"NeverTwice", testNeverTwice},
		{"Order", testOrder},
		{"Refuses", testRefuses},
		{"SkipTo", testSkipTo},
		{"JumpBudget", testJumpBudget},
		{"Status", testStatus},
		{"Zeroize", testZeroize},
	} {
		for _, scheme := range []dukpt.Scheme{dukpt.TDES, dukpt.AES} {
			t.Run(c.name+"/"+scheme.String(), func(t *testing.T) {
				t.Parallel()
				c.test(t, load, newRig(t, scheme))
			})
		}
	}
}

const (
	slotNumber  = 3
	otherNumber = 5
)

// rig is the host's half of two slots that can do everything.
type rig struct {
	base  map[uint8]*dukpt.BaseKey
	slots map[uint8]terminal.BundleSlot
}

func newRig(t *testing.T, scheme dukpt.Scheme) *rig {
	t.Helper()
	r := &rig{base: make(map[uint8]*dukpt.BaseKey), slots: make(map[uint8]terminal.BundleSlot)}
	for _, number := range []uint8{slotNumber, otherNumber} {
		r.add(t, scheme, number)
	}
	return r
}

func (r *rig) add(t *testing.T, scheme dukpt.Scheme, number uint8) {
	t.Helper()
	set := keyset.NewDefaults(scheme, keyset.UsagePIN, keyset.UsageData, keyset.UsageMAC)
	size := map[dukpt.Scheme]int{dukpt.TDES: 10, dukpt.AES: 12}[scheme]
	raw := make([]byte, size)
	copy(raw, []byte{0xff, 0xee, 0x11, 0x22, 0x33, number})
	id, err := dukpt.ParseInitialKSN(raw)
	check(t, err)
	set.ID, set.J, set.FirstID, set.LastID = "SUITE", MaxJump, id, id
	k, err := keys.GenerateKey(keys.Attributes{
		Algorithm: set.Algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	})
	check(t, err)
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	check(t, err)
	ik, err := base.Derive(id)
	check(t, err)
	defer ik.Wipe()
	slot, err := terminal.NewBundleSlot(number, set, ik)
	check(t, err)
	r.base[number], r.slots[number] = base, slot
}

func (r *rig) list() []terminal.BundleSlot {
	return []terminal.BundleSlot{r.slots[slotNumber], r.slots[otherNumber]}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, d Device) terminal.Engine {
	t.Helper()
	e, err := d.Open()
	check(t, err)
	return e
}

func testHostAgrees(t *testing.T, load Load, r *rig) {
	e := open(t, load(t, r.list()))
	slot := r.slots[slotNumber]
	for range 20 {
		ksn, err := e.Begin(slotNumber)
		check(t, err)
		tx, err := r.base[slotNumber].Begin(ksn)
		check(t, err)
		message := []byte("a message of " + ksn.String())
		mac, err := e.MAC(slotNumber, nil, slot.MAC, message)
		check(t, err)
		if err := tx.VerifyMAC(slot.MAC, message, mac); err != nil {
			t.Errorf("MAC under %v: %v", ksn, err)
		}
		plain := []byte(";4111111111111111=29122010000000")
		ct, err := e.EncryptData(slotNumber, []byte("before"), slot.Data, plain)
		check(t, err)
		if !bytes.HasPrefix(ct, []byte("before")) {
			t.Errorf("EncryptData did not append: %x", ct)
		}
		back, err := tx.DecryptData(nil, slot.Data, ct[len("before"):])
		check(t, err)
		if !bytes.Equal(back, plain) {
			t.Errorf("data under %v: host reads %q, want %q", ksn, back, plain)
		}
		checkPIN(t, e, tx, slot)
		answer := []byte("an answer")
		mac, err = tx.MACResponse(nil, slot.MAC, answer)
		check(t, err)
		if err := e.VerifyResponse(slotNumber, slot.MAC, answer, mac); err != nil {
			t.Errorf("response under %v: %v", ksn, err)
		}
		e.End(slotNumber)
		tx.End()
	}
}

// checkPIN has the host translate the PIN block under a key of its own; that fails for any other card.
func checkPIN(t *testing.T, e terminal.Engine, tx *dukpt.HostTransaction, slot terminal.BundleSlot) {
	t.Helper()
	p, err := pin.ParsePIN([]byte("1234"))
	check(t, err)
	pan, err := pin.ParsePAN("4111111111111111")
	check(t, err)
	block, err := e.EncryptPIN(slotNumber, nil, slot.PINFormat, p, pan)
	check(t, err)
	a := keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	}
	if slot.Scheme() == dukpt.TDES {
		a.Algorithm = keys.TDES2
	}
	zone, err := keys.GenerateKey(a)
	check(t, err)
	defer zone.Wipe()
	_, err = tx.TranslatePIN(nil, dukpt.PINBlock{Format: slot.PINFormat, PAN: pan, Block: block},
		dukpt.PINTarget{Format: slot.PINFormat, PAN: pan, Key: zone})
	if err != nil {
		t.Errorf("PIN block under %v: %v", tx.KSN(), err)
	}
}

// testNeverTwice loses power at every possible count of transactions between starts.
func testNeverTwice(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	seen := make(map[dukpt.KSN]bool)
	last := make(map[uint8]uint32)
	for start := range 12 {
		e := open(t, d)
		for n := range start {
			slot := []uint8{slotNumber, otherNumber}[n%2]
			ksn, err := e.Begin(slot)
			check(t, err)
			if seen[ksn] || ksn.Ordinal() <= last[slot] {
				t.Fatalf("start %d: %v comes after ordinal %d of slot %d", start, ksn, last[slot], slot)
			}
			seen[ksn], last[slot] = true, ksn.Ordinal()
			e.End(slot)
		}
	}
	if want := 11 * 12 / 2; len(seen) != want {
		t.Errorf("%d keys seen, want %d", len(seen), want)
	}
}

func testOrder(t *testing.T, load Load, r *rig) {
	e := open(t, load(t, r.list()))
	slot := r.slots[slotNumber]
	idle := func(when string) {
		t.Helper()
		p, pan := pin.PIN{}, pin.PAN{}
		_, pinErr := e.EncryptPIN(slotNumber, nil, slot.PINFormat, p, pan)
		_, dataErr := e.EncryptData(slotNumber, nil, slot.Data, make([]byte, 16))
		_, macErr := e.MAC(slotNumber, nil, slot.MAC, []byte("m"))
		for i, err := range []error{pinErr, dataErr, macErr, e.VerifyResponse(slotNumber, slot.MAC, []byte("m"), make([]byte, 8))} {
			if !errors.Is(err, terminal.ErrNoTransaction) {
				t.Errorf("%s, call %d: %v, want ErrNoTransaction", when, i, err)
			}
		}
	}
	idle("before Begin")
	e.End(slotNumber)
	_, err := e.Begin(slotNumber)
	check(t, err)
	if _, err := e.Begin(slotNumber); !errors.Is(err, terminal.ErrNoTransaction) {
		t.Errorf("Begin in a transaction: %v, want ErrNoTransaction", err)
	}
	if _, err := e.Begin(otherNumber); err != nil {
		t.Errorf("Begin of another slot: %v", err)
	}
	ahead, err := slot.KeyID.AtOrdinal(100)
	check(t, err)
	if err := e.SkipTo(slotNumber, ahead); !errors.Is(err, terminal.ErrNoTransaction) {
		t.Errorf("SkipTo in a transaction: %v, want ErrNoTransaction", err)
	}
	e.End(slotNumber)
	e.End(slotNumber)
	idle("after End")
}

func testRefuses(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := open(t, d)
	slot := r.slots[slotNumber]
	if _, err := e.Begin(9); !errors.Is(err, terminal.ErrSlot) {
		t.Errorf("Begin of slot 9: %v, want ErrSlot", err)
	}
	ksn, err := e.Begin(slotNumber)
	check(t, err)
	tx, err := r.base[slotNumber].Begin(ksn)
	check(t, err)
	defer tx.End()
	answer := []byte("an answer")
	good, err := tx.MACResponse(nil, slot.MAC, answer)
	check(t, err)
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := e.VerifyResponse(slotNumber, slot.MAC, answer, bad); !errors.Is(err, dukpt.ErrVerify) {
			t.Fatalf("MAC with bit %d flipped: %v, want ErrVerify", bit, err)
		}
	}
	own, err := e.MAC(slotNumber, nil, slot.MAC, answer)
	check(t, err)
	if err := e.VerifyResponse(slotNumber, slot.MAC, answer, own); !errors.Is(err, dukpt.ErrVerify) {
		t.Errorf("a request MAC as response: %v, want ErrVerify", err)
	}
	if _, err := e.EncryptData(slotNumber, nil, slot.Data, []byte("not a block")); !errors.Is(err, dukpt.ErrLength) {
		t.Errorf("11 bytes of data: %v, want ErrLength", err)
	}
	if d.Keypad {
		return
	}
	pan, err := pin.ParsePAN("4111111111111111")
	check(t, err)
	if _, err := e.EncryptPIN(slotNumber, nil, slot.PINFormat, pin.PIN{}, pan); !errors.Is(err, terminal.ErrNoKeypad) {
		t.Errorf("PIN asked of an engine without keypad: %v, want ErrNoKeypad", err)
	}
}

func testSkipTo(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := open(t, d)
	id := r.slots[slotNumber].KeyID
	skip := func(n uint32) error {
		ksn, err := id.AtOrdinal(n)
		check(t, err)
		return e.SkipTo(slotNumber, ksn)
	}
	next := func(want uint32) {
		t.Helper()
		ksn, err := e.Begin(slotNumber)
		check(t, err)
		e.End(slotNumber)
		if ksn.Ordinal() != want {
			t.Errorf("Begin gives ordinal %d, want %d", ksn.Ordinal(), want)
		}
	}
	next(1)
	check(t, skip(500))
	next(500)
	check(t, skip(3))
	next(501)
	if err := skip(502 + MaxJump + 1); !errors.Is(err, terminal.ErrJump) {
		t.Errorf("jump of %d: %v, want ErrJump", MaxJump+1, err)
	}
	next(502)
	check(t, skip(503+MaxJump))
	next(503 + MaxJump)
	e = open(t, d)
	ksn, err := e.Begin(slotNumber)
	check(t, err)
	if ksn.Ordinal() <= 503+MaxJump {
		t.Errorf("after a restart ordinal %d comes again", ksn.Ordinal())
	}
	other, err := r.slots[otherNumber].KeyID.AtOrdinal(5)
	check(t, err)
	e.End(slotNumber)
	if err := e.SkipTo(slotNumber, other); !errors.Is(err, dukpt.ErrKSN) {
		t.Errorf("SkipTo with the KSN of another key: %v, want ErrKSN", err)
	}
}

// testJumpBudget jumps until the budget is used up, and checks that a restart does not refill it.
func testJumpBudget(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	id := r.slots[slotNumber].KeyID
	refused := 0
	for range 40 {
		e := open(t, d)
		st := statusOf(t, e, slotNumber)
		ksn, err := id.AtOrdinal(st.Next.Ordinal() + MaxJump)
		check(t, err)
		err = e.SkipTo(slotNumber, ksn)
		if errors.Is(err, terminal.ErrJumpBudget) {
			refused++
			if got := statusOf(t, e, slotNumber); got.Next != st.Next {
				t.Errorf("a refused jump moved from %v to %v", st.Next, got.Next)
			}
			continue
		}
		check(t, err)
		if refused > 0 {
			t.Fatal("a jump is allowed again")
		}
	}
	if refused == 0 {
		t.Error("40 jumps of the largest size, and none was refused")
	}
}

func statusOf(t *testing.T, e terminal.Engine, slot uint8) terminal.SlotStatus {
	t.Helper()
	for _, st := range e.Status() {
		if st.Slot == slot {
			return st
		}
	}
	t.Fatalf("no status of slot %d", slot)
	return terminal.SlotStatus{}
}

func testStatus(t *testing.T, load Load, r *rig) {
	e := open(t, load(t, r.list()))
	all := e.Status()
	if len(all) != 2 || all[0].Slot != slotNumber || all[1].Slot != otherNumber {
		t.Fatalf("status %+v, want slots %d and %d", all, slotNumber, otherNumber)
	}
	before := all[0]
	id := r.slots[slotNumber].KeyID
	if before.KeyID != id || before.Remaining != id.Scheme().MaxOrdinal() {
		t.Errorf("a fresh slot: %+v", before)
	}
	ksn, err := e.Begin(slotNumber)
	check(t, err)
	e.End(slotNumber)
	after := statusOf(t, e, slotNumber)
	if ksn != before.Next || after.Remaining != before.Remaining-1 {
		t.Errorf("Begin took %v with %+v before and %+v after", ksn, before, after)
	}
}

func testZeroize(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := open(t, d)
	_, err := e.Begin(slotNumber)
	check(t, err)
	check(t, e.Zeroize())
	check(t, e.Zeroize())
	if _, err := e.Begin(slotNumber); !errors.Is(err, terminal.ErrZeroized) {
		t.Errorf("Begin after Zeroize: %v, want ErrZeroized", err)
	}
	if _, err := e.MAC(slotNumber, nil, r.slots[slotNumber].MAC, []byte("m")); !errors.Is(err, terminal.ErrZeroized) {
		t.Errorf("MAC after Zeroize: %v, want ErrZeroized", err)
	}
	if again, err := d.Open(); err == nil {
		if _, err := again.Begin(slotNumber); err == nil {
			t.Error("the keys are there again after a restart")
		}
	}
}
