package residue_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// isChild tells this process that it is the one to be scanned.
const isChild = "LATCHKEY_RESIDUE_CHILD"

// role is one of the four that use keys: a scheme, at a terminal or at a host.
type role struct {
	name     string
	a        keys.Algorithm
	id       string
	terminal bool
}

// keysPerRole times the four roles is what the scan is about.
const keysPerRole = 5000

// bulk is how many bytes of data each key is used for: more blocks of TDES than go two by two.
const bulk = 48

var roles = []role{
	{"TDES terminal", keys.TDES2, "FFFF9876543210E00000", true},
	{"TDES host", keys.TDES2, "FFFF9876543210200000", false},
	{"AES terminal", keys.AES128, "1234567890123456", true},
	{"AES host", keys.AES128, "1234567890123457", false},
}

// TestChild is no test: it is the process that is scanned. It reads a base key for each role, the keys of a custody and the
// control key, derives, uses and wipes, keeps the control key alone, and waits.
func TestChild(t *testing.T) {
	if os.Getenv(isChild) == "" {
		t.Skip("only the process that TestResidue starts does this")
	}
	used := 0
	for _, r := range roles {
		n, err := r.run(readKey(t))
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		used += n
	}
	c, err := newCustody(readKey(t), readKey(t), readKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range holdings {
		if err := h.hold(c, readKey(t), readKey(t)); err != nil {
			t.Fatalf("%s key held: %v", h.name, err)
		}
		used += heldRounds
	}
	c.wipe()
	raw := readKey(t)
	control := secret.From(raw[:])
	secret.Wipe(raw[:])
	runtime.GC()
	runtime.GC() // what secret.Do allocated is erased when the collector frees it
	fmt.Printf("ready %d\n", used)
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	runtime.KeepAlive(control)
}

// readKey reads 32 hexadecimal digits and leaves no copy of them: a test that kept its own input would find that.
func readKey(t *testing.T) *[16]byte {
	t.Helper()
	var text [32]byte
	defer secret.Wipe(text[:])
	if _, err := io.ReadFull(os.Stdin, text[:]); err != nil {
		t.Fatal(err)
	}
	key := new([16]byte)
	if _, err := hex.Decode(key[:], text[:]); err != nil {
		t.Fatal(err)
	}
	return key
}

// run derives the keys of the role under a base key, which it wipes, and returns how many it used.
func (r role) run(raw *[16]byte) (int, error) {
	id, err := dukpt.ParseKeyID(r.id)
	if err != nil {
		return 0, err
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: r.a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, raw[:])
	secret.Wipe(raw[:])
	if err != nil {
		return 0, err
	}
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		return 0, err
	}
	defer base.Wipe()
	if r.terminal {
		return r.sell(base, id)
	}
	return r.serve(base, id)
}

// sell takes a terminal through its first keys.
func (r role) sell(base *dukpt.BaseKey, id dukpt.KeyID) (n int, err error) {
	ik, err := base.Derive(id)
	if err != nil {
		return 0, err
	}
	terminal, err := dukpt.NewTerminal(ik)
	if err != nil {
		return 0, err
	}
	defer terminal.Wipe()
	p, pan, err := card()
	if err != nil {
		return 0, err
	}
	tx := dukpt.NewTransaction()
	for ; n < keysPerRole; n++ {
		if terminal.Available() == 0 {
			if err := terminal.Reserve(min(dukpt.MaxReserve, keysPerRole-n), func(keys.Secret) error { return nil }); err != nil {
				return n, err
			}
		}
		if err := terminal.Next(tx); err != nil {
			return n, err
		}
		_, err := tx.EncryptPIN(nil, r.format(), p, pan)
		data, err2 := tx.EncryptData(nil, id.Scheme().DefaultData(), make([]byte, bulk))
		_, err3 := tx.DecryptResponse(nil, response(id.Scheme()), data)
		mac, err4 := tx.MAC(nil, id.Scheme().DefaultMAC(), data)
		err5 := tx.VerifyResponse(id.Scheme().DefaultMAC(), data, mac)
		tx.End()
		if err := errors.Join(err, err2, err3, err4); err != nil || !errors.Is(err5, dukpt.ErrVerify) {
			return n, errors.Join(err, err5)
		}
	}
	return n, nil
}

// serve opens what the first transactions of a terminal could have sent: a third of them one by one, a third along a path, a
// third in batches.
func (r role) serve(base *dukpt.BaseKey, id dukpt.KeyID) (n int, err error) {
	zone, err := keys.GenerateKey(keys.Attributes{
		Algorithm: r.a, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	})
	if err != nil {
		return 0, err
	}
	_, pan, err := card()
	if err != nil {
		return 0, err
	}
	path, tx := base.NewPath(), dukpt.NewHostTransaction()
	defer path.Wipe()
	var batch []dukpt.KSN
	for n < keysPerRole {
		ksn, err := id.AtOrdinal(uint32(n + len(batch) + 1))
		if err != nil {
			return n, err
		}
		switch {
		case n < keysPerRole/3:
			err = base.Bind(tx, ksn)
		case n < keysPerRole*2/3:
			err = path.Seek(tx, ksn)
		default:
			if batch = append(batch, ksn); n+len(batch) < keysPerRole && len(batch) < 100 {
				continue
			}
			err = base.DeriveBatch(batch, func(_ int, tx *dukpt.HostTransaction) error {
				n++
				return r.open(tx, id.Scheme(), pan, zone)
			})
			if err != nil {
				return n, err
			}
			batch = batch[:0]
			continue
		}
		if err != nil {
			return n, err
		}
		err = r.open(tx, id.Scheme(), pan, zone)
		tx.End()
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// open uses each kind of working key of a transaction.
func (r role) open(tx *dukpt.HostTransaction, scheme dukpt.Scheme, pan pin.PAN, zone keys.Key) error {
	in := dukpt.PINBlock{Format: r.format(), PAN: pan, Block: make([]byte, r.format().BlockSize())}
	_, err1 := tx.TranslatePIN(nil, in, dukpt.PINTarget{Format: r.format(), PAN: pan, Key: zone}) // a block of noise
	data, err2 := tx.DecryptData(nil, scheme.DefaultData(), make([]byte, bulk))
	_, err3 := tx.EncryptResponse(nil, response(scheme), data)
	mac, err4 := tx.MACResponse(nil, scheme.DefaultMAC(), data)
	err5 := tx.VerifyMAC(scheme.DefaultMAC(), data, mac)
	if err := errors.Join(err2, err3, err4); err != nil || !errors.Is(err1, dukpt.ErrVerify) || !errors.Is(err5, dukpt.ErrVerify) {
		return errors.Join(err, err1, err5)
	}
	return nil
}

func response(s dukpt.Scheme) dukpt.DataSpec {
	spec := s.DefaultData()
	spec.Direction = dukpt.Response
	return spec
}

func (r role) format() pin.Format {
	if r.a.IsAES() {
		return pin.Format4
	}
	return pin.Format0
}

func card() (pin.PIN, pin.PAN, error) {
	p, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		return p, pin.PAN{}, err
	}
	pan, err := pin.ParsePAN("4111111111111111")
	return p, pan, err
}
