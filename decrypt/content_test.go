package decrypt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// vectorContent makes the content of a vector and the input that the HMAC was over.
func vectorContent(v testvec.Vector) (Content, []byte, error) {
	key := secret.From(v.Hex("claim_key"))
	ksn, err := dukpt.ParseKSN(v.Hex("ksn"))
	if err != nil {
		return Content{}, nil, err
	}
	p, err := ParsePurpose(v.String("purpose"))
	if err != nil {
		return Content{}, nil, err
	}
	switch p {
	case PurposePIN:
		digits := []byte(v.String("pan"))
		c, err := pinContent(key, ksn, v.Hex("ciphertext"), digits)
		return c, contentInput(ksn, p, v.Hex("ciphertext"), nil, nil, digits), err
	case PurposeData:
		mode, err := dukpt.ParseCipherMode(v.String("mode"))
		if err != nil {
			return Content{}, nil, err
		}
		c, err := DataContent(key, ksn, v.Hex("ciphertext"), v.Hex("iv"), mode)
		return c, contentInput(ksn, p, v.Hex("ciphertext"), v.Hex("iv"), []byte(mode.String())), err
	default:
		c, err := MACContent(key, ksn, p, v.Hex("message"), v.Hex("mac"))
		return c, contentInput(ksn, p, v.Hex("message"), v.Hex("mac")), err
	}
}

var contentHandlers = map[string]testvec.Handler{
	"claim_content": func(v testvec.Vector) (int, error) {
		c, input, err := vectorContent(v)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(input, v.Hex("input")) {
			return 0, fmt.Errorf("input %x", input)
		}
		if c.String() != v.String("content") {
			return 0, fmt.Errorf("content %v", c)
		}
		return 2, nil
	},
	"claim_content_refused": func(v testvec.Vector) (int, error) {
		c, _, err := vectorContent(v)
		if err == nil {
			return 0, fmt.Errorf("accepted: %v", c)
		}
		return 1, nil
	},
}

func TestVectorsContent(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "protocol-claims", contentHandlers)
	testvec.Flip(t, "protocol-claims", contentHandlers, map[string][]string{"claim_content": {"input", "content"}})
}

// TestPINContentTakesTheDigitsOfItsFormat compares the exported function with the vectors' choice of digits.
func TestPINContentTakesTheDigitsOfItsFormat(t *testing.T) {
	t.Parallel()
	key := secret.New(claimKeySize)
	ksn := must(dukpt.ParseKSNHex("FFFF9876543210E00001"))
	block := []byte("12345678")
	pan := must(pin.ParsePAN("4111111111111111"))
	for f, digits := range map[pin.Format]string{pin.Format0: "111111111111", pin.Format3: "111111111111", pin.Format4: "4111111111111111"} {
		got, err := PINContent(key, ksn, block, f, pan)
		want := must(pinContent(key, ksn, block, []byte(digits)))
		if err != nil || got != want {
			t.Errorf("%v: %v %v, want %v", f, got, err, want)
		}
	}
	for _, f := range []pin.Format{0, pin.Format1, pin.Format2, 99} {
		if c, err := PINContent(key, ksn, block, f, pan); err == nil {
			t.Errorf("format %d has the content %v", f, c)
		}
	}
	if _, err := PINContent(key, ksn, block, pin.Format0, pin.PAN{}); !errors.Is(err, errContent) {
		t.Errorf("without PAN: %v", err)
	}
	if !bytes.Equal(pan.Digits().Expose(), []byte("4111111111111111")) {
		t.Error("the PAN was wiped")
	}
}

// TestContentParts moves bytes from each part to the next: no two inputs are alike.
func TestContentParts(t *testing.T) {
	t.Parallel()
	key := secret.New(claimKeySize)
	a, b := must(dukpt.ParseKSNHex("FFFF9876543210E00001")), must(dukpt.ParseKSNHex("FFFF9876543210E00002"))
	other := secret.New(claimKeySize)
	other.Expose()[0] = 1
	seen := make(map[Content]string)
	add := func(name string, c Content, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if before, ok := seen[c]; ok {
			t.Errorf("%s has the content of %s", name, before)
		}
		seen[c] = name
	}
	for _, part := range []struct {
		name   string
		ct, iv string
		mode   dukpt.CipherMode
	}{{"plain", "12345678", "", dukpt.CBC}, {"ecb", "12345678", "", dukpt.ECB}, {"iv", "1234", "5678", dukpt.CBC}, {"iv longer", "123", "45678", dukpt.CBC}} {
		c, err := DataContent(key, a, []byte(part.ct), []byte(part.iv), part.mode)
		add("data "+part.name, c, err)
	}
	for _, p := range []Purpose{PurposeMAC, PurposeSignIn, PurposeMACResponse} {
		c, err := MACContent(key, a, p, []byte("1234"), []byte("5678"))
		add(p.String(), c, err)
		c, err = MACContent(key, a, p, []byte("12345"), []byte("678"))
		add(p.String()+" moved", c, err)
	}
	c, err := MACContent(key, b, PurposeMAC, []byte("1234"), []byte("5678"))
	add("another KSN", c, err)
	c, err = MACContent(other, a, PurposeMAC, []byte("1234"), []byte("5678"))
	add("another key", c, err)

	for _, p := range []Purpose{0, PurposePIN, PurposeData, PurposePINResponse, PurposeDataResponse, 8} {
		if _, err := MACContent(key, a, p, []byte("1234"), []byte("5678")); err == nil {
			t.Errorf("%v has a MAC content", p)
		}
	}
	if _, err := MACContent(key, dukpt.KSN{}, PurposeMAC, []byte("1"), []byte("2")); !errors.Is(err, errContent) {
		t.Errorf("without KSN: %v", err)
	}
	if _, err := DataContent(key, a, []byte("12345678"), nil, 0); err == nil {
		t.Error("data without mode has a content")
	}
}

func TestTreatment(t *testing.T) {
	t.Parallel()
	full := Treatment{
		Operation: "translate-pin", Derivation: "AES AES128", Variant: "pin", Padding: "none", FromFormat: "ISO_FORMAT_4", ToFormat: "ISO_FORMAT_0",
		OutgoingKey: must(keyset.ParseKeyRef("alias/zone")), Resolved: must(keyset.ParseKeyRef("alias/zone/1")),
	}
	for _, want := range []Treatment{full, {Operation: "verify-mac"}} {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseTreatment(b)
		if err != nil || got != want {
			t.Errorf("got %+v %v, want %+v", got, err, want)
		}
		for n := range b {
			if _, err := ParseTreatment(b[:n]); err == nil {
				t.Errorf("%x is accepted", b[:n])
			}
		}
		if _, err := ParseTreatment(append(b, 0)); err == nil {
			t.Error("a treatment with bytes behind it is accepted")
		}
	}
	for i, change := range []func(*Treatment){
		func(t *Treatment) { t.Operation = "decrypt-data" }, func(t *Treatment) { t.Derivation = "TDES" }, func(t *Treatment) { t.Variant = "mask" },
		func(t *Treatment) { t.Padding = "iso" }, func(t *Treatment) { t.FromFormat = "ISO_FORMAT_0" }, func(t *Treatment) { t.ToFormat = "ISO_FORMAT_4" },
		func(t *Treatment) { t.OutgoingKey = must(keyset.ParseKeyRef("alias/zone-2")) },
	} {
		changed := full
		change(&changed)
		if full.Same(changed) || sameTreatment(must(full.Encode()), must(changed.Encode())) {
			t.Errorf("change %d makes no difference", i)
		}
	}
	resolved := full
	resolved.Resolved = must(keyset.ParseKeyRef("alias/zone/2"))
	if !full.Same(resolved) || !sameTreatment(must(full.Encode()), must(resolved.Encode())) {
		t.Error("the resolved key makes a difference")
	}
	if sameTreatment([]byte{0xff}, []byte{0xff}) {
		t.Error("treatments that cannot be read are the same")
	}
	for name, bad := range map[string]Treatment{"nothing": {}, "too long": {Operation: strings.Repeat("x", maxTreatment)}} {
		if _, err := bad.Encode(); err == nil {
			t.Errorf("%s is encoded", name)
		}
	}
	for name, text := range map[string]string{
		"no version":       "a1" + "696f7065726174696f6e" + "6178",
		"another version":  "a2" + "617602" + "696f7065726174696f6e" + "6178",
		"no operation":     "a1" + "617601",
		"unknown member":   "a3" + "617601" + "617801" + "696f7065726174696f6e" + "6178",
		"member twice":     "a3" + "617601" + "617601" + "696f7065726174696f6e" + "6178",
		"other order":      "a2" + "696f7065726174696f6e" + "6178" + "617601",
		"empty member":     "a3" + "617601" + "62746f" + "60" + "696f7065726174696f6e" + "6178",
		"bad key":          "a3" + "617601" + "636b6579" + "622e2e" + "696f7065726174696f6e" + "6178",
		"a list":           "80",
		"a text as number": "a2" + "61766131" + "696f7065726174696f6e" + "6178",
	} {
		if got, err := ParseTreatment(must(hex.DecodeString(text))); err == nil {
			t.Errorf("%s is accepted: %+v", name, got)
		}
	}
}

func FuzzParseTreatment(f *testing.F) {
	f.Add(must(Treatment{Operation: "verify-mac"}.Encode()))
	f.Add(must(Treatment{Operation: "translate-pin", ToFormat: "ISO_FORMAT_0", OutgoingKey: must(keyset.ParseKeyRef("alias/zone"))}.Encode()))
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := ParseTreatment(b)
		if err != nil {
			return
		}
		again, err := parsed.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %+v, which is written as %x (%v)", b, parsed, again, err)
		}
	})
}

func TestPurpose(t *testing.T) {
	t.Parallel()
	for p := PurposePIN; p <= PurposeMACResponse; p++ {
		got, err := ParsePurpose(p.String())
		if err != nil || got != p {
			t.Errorf("%v: %v %v", p, got, err)
		}
	}
	for _, s := range []string{"", "PIN", "pan", "decrypt.Purpose(0)"} {
		if p, err := ParsePurpose(s); err == nil {
			t.Errorf("%q is %v", s, p)
		}
	}
}
