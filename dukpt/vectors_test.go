package dukpt

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// check collects comparisons of one vector.
type check struct {
	n   int
	err error
}

func (c *check) bytes(what string, got, want []byte) {
	c.n++
	if c.err == nil && !bytes.Equal(got, want) {
		c.err = fmt.Errorf("%s: got %X, want %X", what, got, want)
	}
}

func (c *check) true(what string, ok bool) {
	c.n++
	if c.err == nil && !ok {
		c.err = fmt.Errorf("%s: not so", what)
	}
}

// ok takes an error that ends the vector.
func (c *check) ok(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *check) done() (int, error) { return c.n, c.err }

func algorithmFor(scheme Scheme, size int) keys.Algorithm {
	if scheme == TDES {
		return keys.TDES2
	}
	return map[int]keys.Algorithm{16: keys.AES128, 24: keys.AES192, 32: keys.AES256}[size]
}

func testBaseKey(scheme Scheme, material []byte) (*BaseKey, error) {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: algorithmFor(scheme, len(material)), Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, material)
	if err != nil {
		return nil, err
	}
	return NewBaseKey(k)
}

func testInitialKey(id KeyID, material []byte) (*InitialKey, error) {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: algorithmFor(id.Scheme(), len(material)), Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, material)
	if err != nil {
		return nil, err
	}
	return NewInitialKey(id, k)
}

func discard(secret.Bytes) error { return nil }

// roles are both sides of one transaction.
type roles struct {
	host *HostTransaction
	term *Transaction
}

// both begins a transaction on the host and on a terminal that was loaded with the initial key and skipped to ksn.
func both(ksn KSN, bdk []byte) (roles, error) {
	base, err := testBaseKey(ksn.Scheme(), bdk)
	if err != nil {
		return roles{}, err
	}
	host, err := base.Begin(ksn)
	if err != nil {
		return roles{}, err
	}
	ik, err := base.Derive(ksn.KeyID())
	if err != nil {
		return roles{}, err
	}
	tx, err := terminalAt(ik, ksn)
	return roles{host, tx}, err
}

func terminalAt(ik *InitialKey, ksn KSN) (*Transaction, error) {
	t, err := NewTerminal(ik)
	if err != nil {
		return nil, err
	}
	if err := t.SkipTo(ksn, discard); err != nil {
		return nil, err
	}
	if err := t.Reserve(1, discard); err != nil {
		return nil, err
	}
	tx := NewTransaction()
	return tx, t.Next(tx)
}

func vectorRoles(v testvec.Vector) (roles, error) {
	ksn, err := ParseKSN(v.Hex("ksn"))
	if err != nil {
		return roles{}, err
	}
	return both(ksn, v.Hex("bdk"))
}

// pad fills with zeros up to a multiple of size.
func pad(s string, size int) []byte {
	b := []byte(s)
	return append(b, make([]byte, (size-len(b)%size)%size)...)
}

func parsePINs(v testvec.Vector) (pin.PIN, pin.PAN, error) {
	p, err := pin.ParsePIN([]byte(v.String("pin")))
	if err != nil {
		return p, pin.PAN{}, err
	}
	pan, err := pin.ParsePAN(v.String("pan"))
	return p, pan, err
}

// vectorInitialKey serves both topics; the AES one names the key id alone.
func vectorInitialKey(v testvec.Vector) (int, error) {
	var c check
	var id KeyID
	var err error
	if v.Has("ikid") {
		id, err = ParseKeyID(v.String("ikid"))
	} else {
		id, err = ParseInitialKSN(v.Hex("ksn"))
	}
	c.ok(err)
	base, err := testBaseKey(id.Scheme(), v.Hex("bdk"))
	if err != nil {
		return 0, err
	}
	ik, err := base.Derive(id)
	if err != nil {
		return 0, err
	}
	defer ik.Wipe()
	c.bytes("initial key", ik.Key().Material().Expose(), v.Hex("ik"))
	c.true("key id kept", ik.KeyID() == id)
	return c.done()
}

// vectorTransactionKey takes the key from the host's walk and from the terminal's registers. AES calls it derivation key.
func vectorTransactionKey(member string) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		r, err := vectorRoles(v)
		if err != nil {
			return 0, err
		}
		var c check
		c.bytes("host's key", r.host.s.key(), v.Hex(member))
		c.bytes("terminal's key", r.term.s.key(), v.Hex(member))
		ik, err := testInitialKey(r.host.KSN().KeyID(), v.Hex("ik"))
		if err != nil {
			return 0, err
		}
		tx, err := terminalAt(ik, r.host.KSN())
		if err != nil {
			return 0, err
		}
		c.bytes("key from the initial key printed", tx.s.key(), v.Hex(member))
		return c.done()
	}
}

// vectorKSNAdvance steps from a counter, or from the initial KSN with counter 0.
func vectorKSNAdvance(v testvec.Vector) (int, error) {
	var c check
	var next KSN
	var ok bool
	if id, counter, err := splitKSN(v.Hex("ksn")); err != nil {
		return 0, err
	} else if counter == 0 {
		next, err = id.AtOrdinal(1)
		ok = err == nil
	} else {
		ksn, err := id.KSN(counter)
		c.ok(err)
		next, ok = ksn.Next()
	}
	c.true("exhausted as expected", ok != v.Bool("exhausted"))
	if ok {
		c.true("next KSN "+next.String(), next.String() == v.String("next_ksn"))
	} else {
		c.true("no next KSN expected", !v.Has("next_ksn"))
	}
	return c.done()
}

// checkMAC takes one MAC through all four methods of its direction.
func checkMAC(c *check, r roles, spec MACSpec, d Direction, msg, want []byte) {
	var got []byte
	var err error
	if d == Request {
		got, err = r.term.MAC(nil, spec, msg)
		c.ok(err)
		c.ok(r.host.VerifyMAC(spec, msg, want))
		c.true("host refuses another message", r.host.VerifyMAC(spec, append(msg, 1), want) == ErrVerify)
	} else {
		got, err = r.host.MACResponse(nil, spec, msg)
		c.ok(err)
		c.ok(r.term.VerifyResponse(spec, msg, want))
		c.true("terminal refuses another message", r.term.VerifyResponse(spec, append(msg, 1), want) == ErrVerify)
	}
	c.bytes(fmt.Sprintf("%v MAC of %d bytes", d, spec.Length), got, want)
}

// checkData takes one ciphertext through both methods of its direction.
func checkData(c *check, r roles, spec DataSpec, clear, want []byte) {
	var got, back []byte
	var err error
	if spec.Direction == Response {
		got, err = r.host.EncryptResponse(nil, spec, clear)
		c.ok(err)
		back, err = r.term.DecryptResponse(nil, spec, want)
		c.ok(err)
	} else {
		got, err = r.term.EncryptData(nil, spec, clear)
		c.ok(err)
		back, err = r.host.DecryptData(nil, spec, want)
		c.ok(err)
	}
	c.bytes(fmt.Sprintf("%v ciphertext", spec.Direction), got, want)
	c.bytes(fmt.Sprintf("%v clear text", spec.Direction), back, clear)
}

// checkZeroPadding has the zeros added by the specification.
func checkZeroPadding(c *check, r roles, spec DataSpec, text string, want []byte) {
	spec.Padding = ZeroPadding
	encrypt := r.term.EncryptData
	if spec.Direction == Response {
		encrypt = r.host.EncryptResponse
	}
	got, err := encrypt(nil, spec, []byte(text))
	c.ok(err)
	c.bytes("ciphertext of "+text+" and zeros", got, want)
}

// checkTranslate moves a block to a zone key and opens it there.
func checkTranslate(c *check, r roles, f pin.Format, block []byte, p pin.PIN, pan pin.PAN) {
	zone, err := zoneKey(f)
	c.ok(err)
	target := PINTarget{Format: f, PAN: pan, Key: zone, Fill: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	want, err := typedInto(nil, target, p)
	c.ok(err)
	got, err := r.host.TranslatePIN(nil, PINBlock{Format: f, PAN: pan, Block: block}, target)
	c.ok(err)
	c.bytes("translated block", got, want)
}

// typedInto makes the block that a target gets from a PIN as it was typed.
func typedInto(dst []byte, t PINTarget, p pin.PIN) ([]byte, error) {
	k := t.Key.Material().Expose()
	if t.Format.BlockSize() == aesBlock {
		return t.Format.Encrypt(dst, newAES(k), p, t.PAN, t.Fill)
	}
	return t.Format.Encrypt(dst, newDES(k), p, t.PAN, t.Fill)
}

func zoneKey(f pin.Format) (keys.Key, error) {
	a := keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable}
	if f == pin.Format4 {
		a.Algorithm = keys.AES256
	}
	material := []byte("0123456789abcdefFEDCBA9876543210")
	return keys.NewKey(a, material[:a.Algorithm.KeyBytes()])
}

var deviceHandlers = map[string]testvec.Handler{
	"decrypt":   vectorDevice,
	"mac":       vectorDeviceMAC,
	"key_table": vectorDeviceKeys,
	"frame":     vectorDeviceFrame,
}

func TestVectorsDevices(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "devices", deviceHandlers)
}

func TestVectorsDevicesFlipped(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "devices", deviceHandlers, map[string][]string{
		"decrypt": {"clear_hex", "ciphertext", "clear_sha1_sent_by_the_device"},
		"mac":     {"mac"},
		"frame":   {"track1", "track2", "ksn"},
	})
}
