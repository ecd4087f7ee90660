package ceremony

import (
	"bytes"
	"crypto/subtle"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// FuzzParseSealed: a file that is read is spelled in one way, and opens only if it is the one that was sealed. That is another
// one in each process: so the input is looked at by itself, and as what is added to the sealed file.
func FuzzParseSealed(f *testing.F) {
	l := newLab(f, keys.AES128)
	key, err := exchanger(l.anna.key)
	check(f, err)
	f.Add(l.sealed[0])
	f.Add(l.sealed[1])
	f.Add([]byte{0x83, 0x40, 0x40, 0x40})
	f.Add([]byte{0, 0, 1})
	one := func(t *testing.T, b []byte) {
		s, err := ParseSealed(b)
		if err != nil {
			return
		}
		again, err := codec.Marshal(file{Header: s.header, Enc: s.enc, Ciphertext: s.ciphertext})
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("another spelling, %v", err)
		}
		head, err := codec.Marshal(header{
			Version: sealedVersion, Ceremony: s.Ceremony, Key: s.Name.String(), Number: uint(s.Number), Of: uint(s.Of),
			Algorithm: s.Algorithm.String(), KCV: s.KCV.String(), KeyKCV: s.KeyKCV.String(), Certificate: s.Certificate[:], Expires: s.Expires.Unix(),
		})
		if err != nil || !bytes.Equal(head, s.header) {
			t.Fatalf("the header says what is not in it, %v", err)
		}
		sheet, err := s.open(key)
		sheet.Wipe()
		if (err == nil) != bytes.Equal(b, l.sealed[0]) {
			t.Fatalf("%x: %v", b, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		one(t, b)
		one(t, added(l.sealed[0], b))
	})
}

// added is a, with b added to its bytes, and what is left of b after it.
func added(a, b []byte) []byte {
	out := append(bytes.Clone(a), b[min(len(a), len(b)):]...)
	subtle.XORBytes(out, out[:min(len(a), len(b))], b)
	return out
}

// FuzzParse: a record that is read is spelled in one way, and its approvals count for it alone. The input is looked at by itself,
// and as what stands at some place of an approved record instead of what stands there.
func FuzzParse(f *testing.F) {
	l := newLab(f, keys.AES128)
	f.Add(l.record.Text(), uint16(0))
	l.approve(f, l.anna, l.bert)
	genuine := l.record.Text()
	f.Add(genuine, uint16(0))
	f.Add([]byte("alias/bdk-2"), uint16(bytes.Index(genuine, []byte("alias/bdk-1"))))
	f.Add(bytes.Replace(genuine, []byte(`,"environment"`), []byte(`,"distribution":true,"environment"`), 1), uint16(0))
	one := func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Text(), b) {
			t.Fatal("another spelling")
		}
		if _, err := r.Begin(l.verifier(), r.Plan().Token, later); err == nil && !bytes.HasPrefix(genuine, b[:r.head]) {
			t.Fatalf("approvals of another record count for %q", b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		one(t, b)
		i := int(at) % len(genuine)
		one(t, append(append(bytes.Clone(genuine[:i]), b...), genuine[min(i+len(b), len(genuine)):]...))
	})
}
