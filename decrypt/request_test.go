package decrypt

import (
	"bytes"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
)

func exampleAsked(tb testing.TB) asked {
	tb.Helper()
	ksn, err := dukpt.ParseKSNHex("FFFF9876543210E00001")
	if err != nil {
		tb.Fatal(err)
	}
	return asked{terminal: "T-1", slot: 2, ksn: ksn, digests: []message.Digest{{1}, {2}}}
}

// FuzzParseAsked holds what the store gives back to being what was given to it: what parses is written alike.
func FuzzParseAsked(f *testing.F) {
	good, err := exampleAsked(f).marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAsked(b)
		if err != nil {
			if bytes.Equal(b, good) {
				t.Fatal("the seed does not parse")
			}
			return
		}
		again, err := a.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x is written again as %x", b, again)
		}
	})
}

func TestAskedOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	b, err := exampleAsked(t).marshal()
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte("\x61v")) // "v", a text of one character; its value follows
	b[i+2]++
	if _, err := parseAsked(b); err == nil {
		t.Error("version 2 is read as version 1")
	}
}
