package des

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestWipeLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, size := range []int{8, 16, 24} {
		c, err := New(bytes.Repeat([]byte{0x13, 0x9b, 0x25, 0xc4}, 6)[:size])
		if err != nil {
			t.Fatal(err)
		}
		inner := *c.key
		if *inner == (key{}) {
			t.Fatal("no key before Wipe")
		}
		c.Wipe()
		if *inner != (key{}) {
			t.Errorf("%d-byte key: Wipe left some of it", size)
		}
		c.Wipe()
	}
	(*Cipher)(nil).Wipe()
	new(Cipher).Wipe()
}

func TestWipedCipherPanics(t *testing.T) {
	t.Parallel()
	c, err := New(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 8)
	c.Wipe()
	for name, use := range map[string]func(){
		"Encrypt": func() { c.Encrypt(block, block) }, "Decrypt": func() { c.Decrypt(block, block) },
		"EncryptFirst": func() { c.EncryptFirst(block, block) }, "DecryptEncrypt": func() { c.DecryptEncrypt(block, block) },
		"EncryptECB": func() { c.EncryptECB(block) }, "DecryptECB": func() { c.DecryptECB(block) },
		"EncryptCBC": func() { c.EncryptCBC(block, block) }, "DecryptCBC": func() { c.DecryptCBC(block, block) },
	} {
		if !panics(use) {
			t.Errorf("%s works under a wiped key", name)
		}
	}
}

func TestPartsOfBlocksPanic(t *testing.T) {
	t.Parallel()
	c, err := New(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 7, 9, 8*Lanes + 4} {
		data, iv := make([]byte, n), make([]byte, 8)
		for name, use := range map[string]func(){
			"EncryptECB": func() { c.EncryptECB(data) }, "DecryptECB": func() { c.DecryptECB(data) },
			"EncryptCBC": func() { c.EncryptCBC(iv, data) }, "DecryptCBC": func() { c.DecryptCBC(iv, data) },
		} {
			if !panics(use) {
				t.Errorf("%s takes %d bytes", name, n)
			}
		}
	}
	for name, use := range map[string]func(){
		"EncryptCBC": func() { c.EncryptCBC(make([]byte, 7), make([]byte, 8)) },
		"DecryptCBC": func() { c.DecryptCBC(make([]byte, 7), make([]byte, 8)) },
	} {
		if !panics(use) {
			t.Errorf("%s takes an IV of 7 bytes", name)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// TestEngineWipe has the parts of the engine wiped, and printed before that.
func TestEngineWipe(t *testing.T) {
	t.Parallel()
	var s Schedule
	var b Blocks
	s.Set(0x133457799BBCDFF1)
	b.Load([]uint64{0x0123456789ABCDEF})
	b.Encrypt(&s)
	var ps PairSchedule
	var pb Pair
	ps.Set(0x133457799BBCDFF1)
	pb.Set(0x0123456789ABCDEF, 0x0123456789ABCDEF)
	pb.Encrypt(&ps)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s"} {
		for _, v := range []any{s, &s, b, &b, ps, &ps, pb, &pb} {
			if out := fmt.Sprintf(verb, v); !strings.Contains(out, redacted) || strings.Contains(out, "18446744073709551615") || strings.Contains(out, "fff") {
				t.Errorf("%s of %T prints %.60s", verb, v, out)
			}
		}
	}
	s.Wipe()
	b.Wipe()
	ps.Wipe()
	pb.Wipe()
	if s != (Schedule{}) || b != (Blocks{}) || ps != (PairSchedule{}) || pb != (Pair{}) {
		t.Error("Wipe left something")
	}
}
