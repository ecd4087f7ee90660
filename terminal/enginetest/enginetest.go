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
	// Open starts the engine, as after power was lost: the engine before it is not used any more and was not closed. The
	// slots are those that the terminal knows; an engine that knows them itself does not look.
	Open func(slots []terminal.Slot) (terminal.Engine, error)
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
		{"Stage", testStage},
		{"StageAgain", testStageAgain},
		{"Switch", testSwitch},
		{"SwitchRefuses", testSwitchRefuses},
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
	nextNumber  = 7 // of keys that are not loaded: they follow the one of slotNumber
	lastNumber  = 8
	staged      = slotNumber | terminal.Staged
)

// rig is the host's half of two slots that can do everything.
type rig struct {
	base  map[uint8]*dukpt.BaseKey
	slots map[uint8]terminal.BundleSlot
	known []terminal.Slot // what the terminal knows after a switch; nil before
}

func newRig(t *testing.T, scheme dukpt.Scheme) *rig {
	t.Helper()
	r := &rig{base: make(map[uint8]*dukpt.BaseKey), slots: make(map[uint8]terminal.BundleSlot)}
	for _, number := range []uint8{slotNumber, otherNumber, nextNumber, lastNumber} {
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

// open starts the engine with the slots that the terminal knows now.
func (r *rig) open(t *testing.T, d Device) terminal.Engine {
	t.Helper()
	known := r.known
	if known == nil {
		for _, s := range r.list() {
			known = append(known, s.Slot)
		}
	}
	e, err := d.Open(known)
	check(t, err)
	return e
}

func testHostAgrees(t *testing.T, load Load, r *rig) {
	e := r.open(t, load(t, r.list()))
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
		e := r.open(t, d)
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
	e := r.open(t, load(t, r.list()))
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
	e := r.open(t, d)
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
	e := r.open(t, d)
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
	e = r.open(t, d)
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
		e := r.open(t, d)
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
	e := r.open(t, load(t, r.list()))
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

// stage has the key of a number follow that of slotNumber.
func (r *rig) stage(t *testing.T, e terminal.Engine, number uint8) {
	t.Helper()
	ik, err := r.slots[number].InitialKey()
	check(t, err)
	check(t, e.Stage(slotNumber, ik, MaxJump))
	k := ik.Key()
	if !k.IsZero() {
		t.Error("the initial key is not wiped")
	}
}

// use takes the next key of a number in the engine and has the host verify a MAC under it.
func (r *rig) use(t *testing.T, e terminal.Engine, at, key uint8) dukpt.KSN {
	t.Helper()
	ksn, err := e.Begin(at)
	check(t, err)
	defer e.End(at)
	if ksn.KeyID() != r.slots[key].KeyID {
		t.Fatalf("number %#x has key %v, want %v", at, ksn.KeyID(), r.slots[key].KeyID)
	}
	tx, err := r.base[key].Begin(ksn)
	check(t, err)
	defer tx.End()
	mac, err := e.MAC(at, nil, r.slots[key].MAC, []byte("m"))
	check(t, err)
	if err := tx.VerifyMAC(r.slots[key].MAC, []byte("m"), mac); err != nil {
		t.Errorf("MAC under %v: %v", ksn, err)
	}
	return ksn
}

// testStage uses a staged key beside the one in use, over restarts, and neither twice.
func testStage(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := r.open(t, d)
	if _, err := e.Begin(staged); !errors.Is(err, terminal.ErrSlot) {
		t.Errorf("Begin with nothing staged: %v, want ErrSlot", err)
	}
	r.stage(t, e, nextNumber)
	seen := make(map[dukpt.KSN]bool)
	for range 3 {
		for range 12 {
			for at, key := range map[uint8]uint8{slotNumber: slotNumber, staged: nextNumber, otherNumber: otherNumber} {
				ksn := r.use(t, e, at, key)
				if seen[ksn] {
					t.Fatalf("%v comes twice", ksn)
				}
				seen[ksn] = true
			}
		}
		ahead, err := r.slots[nextNumber].KeyID.AtOrdinal(statusOf(t, e, staged).Next.Ordinal() + 100)
		check(t, err)
		check(t, e.SkipTo(staged, ahead))
		all := e.Status()
		if len(all) != 3 || all[2].Slot != staged || all[2].Next != ahead || all[2].JumpLimit == 0 {
			t.Errorf("status %+v, want the staged key last, at %v", all, ahead)
		}
		e = r.open(t, d)
	}
}

// testStageAgain puts a second key in the place of the one that waits.
func testStageAgain(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := r.open(t, d)
	r.stage(t, e, nextNumber)
	r.use(t, e, staged, nextNumber)
	r.stage(t, e, lastNumber)
	if ksn := r.use(t, e, staged, lastNumber); ksn.Ordinal() != 1 {
		t.Errorf("the second key begins at %v", ksn)
	}
	e = r.open(t, d)
	r.use(t, e, staged, lastNumber)
	r.use(t, e, slotNumber, slotNumber)
}

// testSwitch puts the staged key into its slot: it counts on, and the old one is gone for good.
func testSwitch(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := r.open(t, d)
	r.use(t, e, slotNumber, slotNumber)
	r.stage(t, e, nextNumber)
	before := r.use(t, e, staged, nextNumber)
	jumped := r.slots[nextNumber].KeyID
	ahead, err := jumped.AtOrdinal(before.Ordinal() + 50)
	check(t, err)
	check(t, e.SkipTo(staged, ahead))
	check(t, e.Switch(slotNumber))
	next := r.slots[nextNumber].Slot
	next.Number = slotNumber
	r.known = []terminal.Slot{next, r.slots[otherNumber].Slot}
	for range 2 {
		all := e.Status()
		if len(all) != 2 || all[0].Slot != slotNumber || all[0].KeyID != jumped || all[0].Jumped == 0 {
			t.Fatalf("status after the switch %+v", all)
		}
		if ksn := r.use(t, e, slotNumber, nextNumber); ksn.Ordinal() < ahead.Ordinal() {
			t.Errorf("%v after %v", ksn, ahead)
		}
		r.use(t, e, otherNumber, otherNumber)
		e = r.open(t, d)
	}
	r.stage(t, e, lastNumber)
	check(t, e.Switch(slotNumber))
	r.use(t, e, slotNumber, lastNumber)
}

func testSwitchRefuses(t *testing.T, load Load, r *rig) {
	e := r.open(t, load(t, r.list()))
	if err := e.Switch(slotNumber); !errors.Is(err, terminal.ErrSlot) {
		t.Errorf("Switch with nothing staged: %v, want ErrSlot", err)
	}
	r.stage(t, e, nextNumber)
	for _, at := range []uint8{slotNumber, staged} {
		_, err := e.Begin(at)
		check(t, err)
		if err := e.Switch(slotNumber); !errors.Is(err, terminal.ErrNoTransaction) {
			t.Errorf("Switch while %#x has a transaction: %v, want ErrNoTransaction", at, err)
		}
		e.End(at)
	}
	_, err := e.Begin(staged)
	check(t, err)
	ik, err := r.slots[lastNumber].InitialKey()
	check(t, err)
	if err := e.Stage(slotNumber, ik, MaxJump); !errors.Is(err, terminal.ErrNoTransaction) {
		t.Errorf("Stage while the staged key has a transaction: %v, want ErrNoTransaction", err)
	}
	if k := ik.Key(); !k.IsZero() {
		t.Error("the initial key that was refused is not wiped")
	}
	e.End(staged)
	r.use(t, e, slotNumber, slotNumber)
	r.use(t, e, staged, nextNumber)
}

func testZeroize(t *testing.T, load Load, r *rig) {
	d := load(t, r.list())
	e := r.open(t, d)
	r.stage(t, e, nextNumber)
	_, err := e.Begin(slotNumber)
	check(t, err)
	check(t, e.Zeroize())
	check(t, e.Zeroize())
	ik, err := r.slots[lastNumber].InitialKey()
	check(t, err)
	if err := e.Stage(slotNumber, ik, MaxJump); !errors.Is(err, terminal.ErrZeroized) {
		t.Errorf("Stage after Zeroize: %v, want ErrZeroized", err)
	}
	if _, err := e.Begin(staged); !errors.Is(err, terminal.ErrZeroized) {
		t.Errorf("Begin of a staged key after Zeroize: %v, want ErrZeroized", err)
	}
	if _, err := e.Begin(slotNumber); !errors.Is(err, terminal.ErrZeroized) {
		t.Errorf("Begin after Zeroize: %v, want ErrZeroized", err)
	}
	if _, err := e.MAC(slotNumber, nil, r.slots[slotNumber].MAC, []byte("m")); !errors.Is(err, terminal.ErrZeroized) {
		t.Errorf("MAC after Zeroize: %v, want ErrZeroized", err)
	}
	if again, err := d.Open([]terminal.Slot{r.slots[slotNumber].Slot}); err == nil {
		for _, at := range []uint8{slotNumber, staged} {
			if _, err := again.Begin(at); err == nil {
				t.Errorf("the key of %#x is there again after a restart", at)
			}
		}
	}
}
