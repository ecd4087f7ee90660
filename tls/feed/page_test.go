package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// parseByCodec reads a page with the decoder that everything else uses. ParsePage accepts the same.
func parseByCodec(b []byte) (*Page, bool) {
	var w wirePage
	if err := pageCodec.Unmarshal(b, &w); err != nil || w.Version != formatVersion {
		return nil, false
	}
	p := &Page{Head: w.Head, Snapshot: w.Snapshot, Records: w.Records, Chain: w.Chain}
	return p, p.validate() == nil
}

var pages = map[string]*Page{
	"least":      {Head: []byte{1}},
	"snapshot":   {Head: []byte("head"), Snapshot: true},
	"whole":      {Head: bytes.Repeat([]byte{7}, 23), Snapshot: true, Records: [][]byte{{1}, bytes.Repeat([]byte{2}, 24)}, Chain: [][]byte{bytes.Repeat([]byte{3}, 256)}},
	"long parts": {Head: bytes.Repeat([]byte{7}, 255), Records: [][]byte{bytes.Repeat([]byte{2}, 65535), bytes.Repeat([]byte{2}, 65536)}},
	"many parts": {Head: []byte{1}, Records: slices.Repeat([][]byte{{1}}, 70000)},
}

func TestPageComesBack(t *testing.T) {
	t.Parallel()
	for name, p := range pages {
		b, err := p.Marshal()
		check(t, err)
		got, err := ParsePage(b)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: comes back otherwise, %v", name, err)
		}
		if other, ok := parseByCodec(b); !ok || !reflect.DeepEqual(other, p) {
			t.Errorf("%s: the codec reads it otherwise", name)
		}
		for n := 0; n < len(b); n += 1 + len(b)/300 {
			if _, err := ParsePage(b[:n]); !errors.Is(err, ErrFormat) {
				t.Fatalf("%s cut to %d bytes: %v, want ErrFormat", name, n, err)
			}
		}
	}
}

func TestPageRefused(t *testing.T) {
	t.Parallel()
	const v, head = "617601", "646865616441ff"
	for name, text := range map[string]string{
		"nothing":              "",
		"no head":              "a1" + v,
		"no version":           "a1" + head,
		"version 2":            "a2" + "617602" + head,
		"wrong order":          "a2" + head + v,
		"longer count":         "b802" + v + head,
		"longer length":        "a2" + v + "64686561645801ff",
		"much longer length":   "a2" + v + "6468656164590001ff",
		"longest length":       "a2" + v + "64686561645a00000001ff",
		"8 bytes of length":    "a2" + v + "64686561645b0000000000000001ff",
		"indefinite bytes":     "a2" + v + "64686561645f41ffff",
		"head as text":         "a2" + v + "64686561646161",
		"empty head":           "a2" + v + "646865616440",
		"false snapshot":       "a3" + v + head + "68736e617073686f74f4",
		"null snapshot":        "a3" + v + head + "68736e617073686f74f6",
		"no records in a list": "a3" + v + head + "677265636f72647380",
		"null records":         "a3" + v + head + "677265636f726473f6",
		"an empty record":      "a3" + v + head + "677265636f7264738140",
		"records as a map":     "a3" + v + head + "677265636f726473a141ff41ff",
		"more than there are":  "a3" + v + head + "677265636f7264738241ff",
		"4294967295 records":   "a3" + v + head + "677265636f7264739affffffff41ff",
		"records before chain": "a4" + v + head + "677265636f7264738141ff" + "65636861696e8141ff",
		"9 certificates":       "a3" + v + head + "65636861696e89" + strings.Repeat("41ff", 9),
		"unknown member":       "a3" + v + head + "657a7a7a7a7a01",
		"too few members":      "a1" + v + head,
		"too many members":     "a3" + v + head,
		"trailing byte":        "a2" + v + head + "00",
		"a tag":                "d9d9f7a2" + v + head,
		"an array":             "82" + v + head,
	} {
		b, err := hex.DecodeString(text)
		check(t, err)
		if p, err := ParsePage(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %+v, %v, want ErrFormat", name, p, err)
		}
		if _, ok := parseByCodec(b); ok {
			t.Errorf("%s: the codec accepts it", name)
		}
	}
	for name, p := range map[string]*Page{
		"no head":           {},
		"large part":        {Head: []byte{1}, Records: [][]byte{make([]byte, maxEnvelopeBytes+1)}},
		"many records":      {Head: []byte{1}, Records: slices.Repeat([][]byte{{1}}, maxPageRecords+1)},
		"many certificates": {Head: []byte{1}, Chain: slices.Repeat([][]byte{{1}}, maxChain+1)},
	} {
		if _, err := p.Marshal(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestSnapshotDigest(t *testing.T) {
	t.Parallel()
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	want := sha256.Sum256(slices.Concat(one[:], two[:]))
	if got := SnapshotDigest([][]byte{[]byte("1"), []byte("2")}); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
	if SnapshotDigest(nil) != sha256.Sum256(nil) {
		t.Error("digest of no records")
	}
}
