package canon_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

type value struct {
	Version uint   `cbor:"v"`
	Name    string `cbor:"name"`
	Data    []byte `cbor:"data,omitempty"`
	List    []uint `cbor:"list,omitempty"`
}

var codec = canon.New(16, 4)

func TestOneSpelling(t *testing.T) {
	t.Parallel()
	want := value{Version: 1, Name: "A", Data: []byte{7}, List: []uint{24}}
	b, err := codec.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	const spelling = "a461760164646174614107646c697374811818646e616d656141"
	if got := hex.EncodeToString(b); got != spelling {
		t.Errorf("got %s, want %s", got, spelling)
	}
	var back value
	if err := codec.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back) != fmt.Sprint(want) {
		t.Errorf("%v came back as %v", want, back)
	}
	for name, other := range map[string]string{
		"trailing byte":         "a2617601646e616d65614100",
		"cut short":             "a2617601646e616d6561",
		"long form of a number": "a261761801646e616d656141",
		"other order":           "a2646e616d656141617601",
		"duplicate member":      "a3617601617601646e616d656141",
		"unknown member":        "a361760161780 1646e616d656141",
		"wrong case":            "a2615601646e616d656141",
		"indefinite map":        "bf617601646e616d656141ff",
		"indefinite text":       "a2617601646e616d657f6141ff",
		"tag":                   "a2617601646e616d65c06141",
		"null":                  "a2617601646e616d65f6",
		"empty member":          "a36176016464617461 40646e616d656141",
		"float":                 "a26176f93c00646e616d656141",
		"not a map":             "01",
		"nothing":               "",
	} {
		raw, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(other), []byte(" "), nil)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var v value
		if err := codec.Unmarshal(raw, &v); err == nil {
			t.Errorf("%s is accepted as %v", name, v)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	b, err := codec.Marshal(value{Version: 1, List: make([]uint, 17)})
	if err != nil {
		t.Fatal(err)
	}
	var v value
	if err := codec.Unmarshal(b, &v); err == nil {
		t.Error("17 items within a limit of 16")
	}
	defer func() {
		if recover() == nil {
			t.Error("limits that cannot be make a codec")
		}
	}()
	canon.New(1, 0)
}

func FuzzUnmarshal(f *testing.F) {
	for _, v := range []value{{Version: 1, Name: "A"}, {Version: 300, Data: []byte("x"), List: []uint{1, 1 << 40}}} {
		b, err := codec.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v value
		if codec.Unmarshal(b, &v) != nil {
			return
		}
		again, err := codec.Marshal(v)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x reads as %v and is written %x, %v", b, v, again, err)
		}
	})
}

func ExampleCodec() {
	codec := canon.New(16, 4)
	b, err := codec.Marshal(map[string]int{"v": 1})
	fmt.Printf("%x %v\n", b, err)
	var v map[string]int
	fmt.Println(codec.Unmarshal([]byte{0xa1, 0x61, 0x76, 0x18, 0x01}, &v)) // the number 1 in two bytes
	// Output:
	// a1617601 <nil>
	// not the deterministic encoding of its content
}
