package keydist_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/keydist"
)

func TestAllowList(t *testing.T) {
	t.Parallel()
	l := must[*keydist.AllowList](t)(keydist.ParseAllowList([]byte("# pallet 7\n\nSN-1.2/3_x\ncertificate:0abc\n00ff")))
	cert := func(device string, serial int64) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{SerialNumber: device}, SerialNumber: big.NewInt(serial)}
	}
	for _, c := range []struct {
		cert *x509.Certificate
		want bool
	}{
		{cert("SN-1.2/3_x", 1), true}, {cert("00ff", 1), true}, {cert("", 0x0abc), true}, {cert("SN-9", 0x0abc), true},
		{cert("", 1), false}, {cert("sn-1.2/3_x", 1), false}, {cert("0abc", 1), false}, {cert("certificate:0abc", 1), false},
		{cert("", 0xff), false}, {cert("# pallet 7", 1), false}, {nil, false},
	} {
		if got := l.Allows(c.cert); got != c.want {
			t.Errorf("%v: %v, want %v", c.cert, got, c.want)
		}
	}
	if l.Len() != 3 || string(l.Format()) != "00ff\nSN-1.2/3_x\ncertificate:0abc\n" {
		t.Errorf("%d entries, written as %q", l.Len(), l.Format())
	}
	var none *keydist.AllowList
	if none.Allows(cert("SN-1", 1)) || none.Len() != 0 || len(none.Format()) != 0 || new(keydist.AllowList).Allows(cert("", 1)) {
		t.Error("no list allows somebody")
	}
}

func TestAllowListRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"space": "SN 1", "space at the end": "SN-1 ", "carriage return": "SN-1\r\n", "tab": "\tSN-1", "quote": `"SN-1"`, "too long": strings.Repeat("1", 65),
		"no serial": "certificate:", "capitals": "certificate:0ABC", "half a byte": "certificate:abc", "leading zero": "certificate:00ff",
		"long serial": "certificate:" + strings.Repeat("01", 21), "another word": "device:SN-1", "twice": "SN-1\nSN-2\nSN-1\n",
		"a certificate twice": "certificate:01\ncertificate:01", "NUL": "SN-1\x00", "beyond ASCII": "SN-1é", "too much": strings.Repeat("#\n", keydist.MaxAllowList),
	} {
		l, err := keydist.ParseAllowList([]byte(text))
		if !errors.Is(err, keydist.ErrAllowList) || l != nil {
			t.Errorf("%s: %v, %v", name, l, err)
		}
		if err != nil && strings.Contains(text, "SN") && strings.Contains(err.Error(), "SN") {
			t.Errorf("%s: the error quotes the list: %v", name, err)
		}
	}
}

// FuzzParseAllowList holds the parser to lists that come back from their own text, and to lines that mean one device each.
func FuzzParseAllowList(f *testing.F) {
	f.Add([]byte("# devices\nSN-1\ncertificate:0abc\n"))
	f.Add([]byte("certificate:00"))
	f.Add([]byte("a\nb\na\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := keydist.ParseAllowList(text)
		if err != nil {
			if l != nil || !errors.Is(err, keydist.ErrAllowList) {
				t.Fatalf("%v, %v", l, err)
			}
			return
		}
		lines := 0
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if len(line) > 0 && line[0] != '#' {
				lines++
			}
		}
		again, err := keydist.ParseAllowList(l.Format())
		if err != nil || again.Len() != lines || l.Len() != lines || !bytes.Equal(again.Format(), l.Format()) {
			t.Fatalf("%q has %d lines and %d devices; its text %q has %v (%v)", text, lines, l.Len(), l.Format(), again.Len(), err)
		}
	})
}
