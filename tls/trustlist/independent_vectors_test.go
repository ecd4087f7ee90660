package trustlist_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

// What follows computes the values of testdata/protocol/trust-list.json again, without the package and its encoder.

var ownHandlers = map[string]testvec.Handler{"trust_list": ownList, "pin": ownPin}

func TestIndependentValues(t *testing.T) {
	t.Parallel()
	testvec.Run(t, topic, ownHandlers, "trust_list_refused", "pin_refused")
}

func TestIndependentValuesCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, topic, ownHandlers, map[string][]string{
		"trust_list": {"payload", "document", "signer", "signature", "digest", "version", "tenant"}, "pin": {"spki", "pin"},
	})
	// In compare the document would differ first.
	testvec.Flip(t, topic, map[string]testvec.Handler{"trust_list": func(v testvec.Vector) (int, error) {
		return 1, ownVerify(v.Hex("payload"), v.Hex("signer"), v.Hex("signature"))
	}}, map[string][]string{"trust_list": {"payload", "signer", "signature"}})
	// Flip changes members that are text alone.
	for name, change := range map[string]func(*fields){
		"not_before":        func(f *fields) { f.notBefore++ },
		"terminals":         func(f *fields) { f.terminals[0][0] ^= 1 },
		"services":          func(f *fields) { f.services[0][0] ^= 1 },
		"keydist":           func(f *fields) { f.keydist[0][0] ^= 1 },
		"pin of the signer": func(f *fields) { f.pins[0] = "0" + f.pins[0][1:] },
		"further pins":      func(f *fields) { f.pins = append(f.pins, f.pins[0]) },
	} {
		testvec.Run(t, topic, map[string]testvec.Handler{"trust_list": func(v testvec.Vector) (int, error) {
			f := fieldsOf(v)
			change(&f)
			if _, err := f.compare(v); err == nil {
				return 0, fmt.Errorf("%s: changed, and still equal", name)
			}
			return 1, nil
		}}, "trust_list_refused", "pin", "pin_refused")
	}
}

// fields are what a list says.
type fields struct {
	tenant                       string
	version, notBefore           uint64
	terminals, services, keydist [][]byte
	pins                         []string // of the signer, and then the further ones
}

func fieldsOf(v testvec.Vector) fields {
	return fields{
		tenant: v.String("tenant"), version: must(strconv.ParseUint(v.String("version"), 10, 64)), notBefore: uint64(v.Int("not_before")),
		terminals: blobs(v, "terminals"), services: blobs(v, "services"), keydist: blobs(v, "keydist"), pins: v.Strings("pins_after"),
	}
}

func ownList(v testvec.Vector) (int, error) {
	f := fieldsOf(v)
	return f.compare(v)
}

// compare makes a list of the fields and compares it with that of the vector.
func (f *fields) compare(v testvec.Vector) (int, error) {
	payload, signer, signature := f.payload(), v.Hex("signer"), v.Hex("signature")
	digest := sha256.Sum256(payload)
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"payload", payload, v.Hex("payload")},
		{"digest", digest[:], v.Hex("digest")},
		{"document", list([][]byte{blob(payload), blob(signer), blob(signature)}), v.Hex("document")},
		{"pin of the signer", []byte(crockford26(signer)), []byte(f.pins[0])},
	} {
		if !bytes.Equal(c.got, c.want) {
			return 0, fmt.Errorf("%s: got %x, want %x", c.name, c.got, c.want)
		}
	}
	return 5, ownVerify(payload, signer, signature)
}

// ownVerify wants a signature over the context, a NUL and the payload.
func ownVerify(payload, signer, signature []byte) error {
	key, err := x509.ParsePKIXPublicKey(signer)
	if err != nil {
		return err
	}
	signed := sha256.Sum256(slices.Concat([]byte("latchkey-trust-v1"), []byte{0}, payload))
	if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), signed[:], signature) {
		return errors.New("the signature is over something else")
	}
	return nil
}

// payload writes the members in the order that deterministic CBOR has them: by their encoded names, the shorter first.
func (f *fields) payload() []byte {
	members := [][2][]byte{{text("v"), number(0x00, 1)}}
	if next := f.pins[1:]; len(next) > 0 {
		members = append(members, [2][]byte{text("next"), list(each(next, text))})
	}
	members = append(members, [][2][]byte{
		{text("tenant"), text(f.tenant)},
		{text("keydist"), list(each(f.keydist, blob))},
		{text("version"), number(0x00, f.version)},
		{text("services"), list(each(f.services, blob))},
		{text("terminals"), list(each(f.terminals, blob))},
		{text("not-before"), number(0x00, f.notBefore)},
	}...)
	out := number(0xa0, uint64(len(members)))
	for _, m := range members {
		out = slices.Concat(out, m[0], m[1])
	}
	return out
}

func ownPin(v testvec.Vector) (int, error) {
	if got := crockford26(v.Hex("spki")); got != v.String("pin") {
		return 0, fmt.Errorf("pin: got %s, want %s", got, v.String("pin"))
	}
	return 1, nil
}

// crockford26 spells the first 130 bits of the SHA-256 of b, five to a character.
func crockford26(b []byte) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	sum := sha256.Sum256(b)
	var out []byte
	for at := 0; at < 130; at += 5 {
		value := 0
		for bit := at; bit < at+5; bit++ {
			value = value<<1 | int(sum[bit/8]>>(7-bit%8)&1)
		}
		out = append(out, alphabet[value])
	}
	return string(out)
}

// Items of CBOR, written by hand: what this test says the bytes are.
func number(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 1<<8:
		return []byte{major | 24, byte(n)}
	case n < 1<<16:
		return []byte{major | 25, byte(n >> 8), byte(n)}
	case n < 1<<32:
		return []byte{major | 26, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	out := []byte{major | 27}
	for shift := 56; shift >= 0; shift -= 8 {
		out = append(out, byte(n>>shift))
	}
	return out
}

func text(s string) []byte   { return append(number(0x60, uint64(len(s))), s...) }
func blob(b []byte) []byte   { return append(number(0x40, uint64(len(b))), b...) }
func list(l [][]byte) []byte { return append(number(0x80, uint64(len(l))), slices.Concat(l...)...) }

func each[T any](in []T, item func(T) []byte) (out [][]byte) {
	for _, v := range in {
		out = append(out, item(v))
	}
	return out
}

func blobs(v testvec.Vector, name string) (out [][]byte) {
	for _, s := range v.Strings(name) {
		out = append(out, must(hex.DecodeString(s)))
	}
	return out
}
