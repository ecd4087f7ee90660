package trustlist_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// FuzzOpen: nothing opens but the lists of the vectors, whose keys nobody has here, under a signature that may be written
// in another way: (r, n-s) verifies where (r, s) does.
func FuzzOpen(f *testing.F) {
	payloads, pins := lists(f)
	f.Fuzz(func(t *testing.T, front, middle, back []byte) {
		doc := slices.Concat(front, middle, back)
		a := trustlist.Accepted{Tenant: "SHOP", Pins: pins}
		l, err := trustlist.Open(doc, a)
		if err != nil {
			if l != nil || !errors.Is(err, trustlist.ErrTrust) {
				t.Fatalf("%x: %v, %v", doc, l, err)
			}
			return
		}
		if !slices.ContainsFunc(payloads, func(p []byte) bool { return bytes.Contains(doc, p) }) {
			t.Fatalf("opens: %x", doc)
		}
		next := a.Next(l)
		if next.Version < 1 || len(next.Pins) < 1 || next.Tenant != "SHOP" {
			t.Fatalf("%x is accepted as %+v", doc, next)
		}
		if _, err := trustlist.Open(doc, next); err != nil {
			t.Fatalf("%x a second time: %v", doc, err)
		}
		next.Digest[0]++
		if _, err := trustlist.Open(doc, next); err == nil {
			t.Fatalf("%x after another list of version %d", doc, next.Version)
		}
	})
}

// lists adds the accepted vectors as seeds and returns their payloads, and the pins of all their signers.
func lists(f *testing.F) (payloads [][]byte, pins []trustlist.Pin) {
	f.Helper()
	b, err := os.ReadFile("../../testdata/protocol/trust-list.json")
	check(f, err)
	var file struct{ Vectors []map[string]any }
	check(f, json.Unmarshal(b, &file))
	var docs [][]byte
	for _, v := range file.Vectors {
		if v["feature"] != "trust_list" {
			continue
		}
		doc, err := hex.DecodeString(fmt.Sprint(v["document"]))
		check(f, err)
		payload, err := hex.DecodeString(fmt.Sprint(v["payload"]))
		check(f, err)
		docs, payloads = append(docs, doc), append(payloads, payload)
		for _, text := range v["pins"].([]any) {
			p, err := trustlist.ParsePin(fmt.Sprint(text))
			check(f, err)
			pins = append(pins, p)
		}
		front, back, ok := bytes.Cut(doc, payload)
		if !ok {
			f.Fatal("the document does not have its payload")
		}
		f.Add(front, payload, back)
	}
	for _, doc := range docs {
		if _, err := trustlist.Open(doc, trustlist.Accepted{Tenant: "SHOP", Pins: pins}); err != nil {
			f.Fatalf("seed %x: %v", doc, err)
		}
	}
	return payloads, pins
}

// FuzzParsePin: a pin has one spelling beside those that people type, and reading that gives it back.
func FuzzParsePin(f *testing.F) {
	f.Add("0123-4567-89ab-cdef-ghjk-mnpq-rs")
	f.Add("oO iI lL 0123456789ABCDEFGHJK")
	for _, seed := range []string{"0123-4567-89ab-cdef-ghjk-mnpq-rs", "oO iI lL 0123456789ABCDEFGHJK"} {
		if _, err := trustlist.ParsePin(seed); err != nil {
			f.Fatalf("seed %q: %v", seed, err)
		}
	}
	f.Fuzz(func(t *testing.T, typed string) {
		p, err := trustlist.ParsePin(typed)
		if err != nil {
			return
		}
		again, err := trustlist.ParsePin(p.String())
		if err != nil || again != p || p.IsZero() || len(p.String()) != trustlist.PinLength {
			t.Fatalf("%q is %v, then %v, %v", typed, p, again, err)
		}
		var q trustlist.Pin
		if err := q.UnmarshalText([]byte(p.String())); err != nil || q != p {
			t.Fatalf("%q is %v, as text %v, %v", typed, p, q, err)
		}
	})
}
