package keys_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	stddes "crypto/des"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/fipstest"
	"github.com/latchkey-pos/latchkey/keys"
)

var allKinds = []keys.KCVKind{keys.KCVLegacy, keys.KCVCMAC, keys.KCVCMACShort, keys.KCVHMAC}

// oracle computes a check value by the standard library and by the definition of CMAC in integers.
func oracle(t *testing.T, a keys.Algorithm, kind keys.KCVKind, raw []byte) string {
	t.Helper()
	if kind == keys.KCVHMAC {
		h := hmac.New(sha256.New, raw)
		return fmt.Sprintf("%X", h.Sum(nil)[:3])
	}
	var b cipher.Block
	var err error
	if a.IsTDES() {
		b, err = stddes.NewTripleDESCipher(append(bytes.Clone(raw), raw[:8]...)[:24])
	} else {
		b, err = aes.NewCipher(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	sum := make([]byte, b.BlockSize())
	b.Encrypt(sum, sum)
	if kind == keys.KCVLegacy {
		return fmt.Sprintf("%X", sum[:3])
	}
	n, bits := new(big.Int).SetBytes(sum), 8*len(sum)
	n.Lsh(n, 1)
	if n.Bit(bits) == 1 {
		n.SetBit(n, bits, 0)
		n.Xor(n, big.NewInt(map[int]int64{64: 0x1b, 128: 0x87}[bits]))
	}
	n.FillBytes(sum)
	b.Encrypt(sum, sum)
	if kind == keys.KCVCMACShort {
		return fmt.Sprintf("%X", sum[:3])
	}
	return fmt.Sprintf("%X", sum[:5])
}

// TestCheckValues holds every kind of every algorithm to the oracle, and refuses those that do not go together.
func TestCheckValues(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		for range 8 { // so that both branches of the doubling are met
			k, err := keys.GenerateKey(attributes(a))
			if err != nil {
				t.Fatal(err)
			}
			c, err := keys.NewComponent(a, k.Material().Expose())
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range append(allKinds, 0, 5) {
				fits := kind != 0 && kind != 5 && (kind == keys.KCVHMAC) == a.IsHMAC()
				got, err := k.CheckValue(kind)
				again, cerr := c.CheckValue(kind)
				if kind.Fits(a) != fits || (err == nil) != fits || again != got || (cerr == nil) != fits {
					t.Fatalf("%v of %v: %v, %v, %v, %v", kind, a, got, err, again, cerr)
				}
				if !fits {
					if !errors.Is(err, keys.ErrCheckValue) || !errors.Is(cerr, keys.ErrCheckValue) || !got.IsZero() {
						t.Errorf("%v of %v: %v", kind, a, err)
					}
					continue
				}
				want := oracle(t, a, kind, k.Material().Expose())
				if got.Kind != kind || got.KCV.String() != want || len(want) != 2*kind.Bytes() {
					t.Errorf("%v of %v: %v, want %s", kind, a, got, want)
				}
				if err := errors.Join(k.Verify(got), c.Verify(got)); err != nil {
					t.Errorf("%v of %v: %v", kind, a, err)
				}
				if kind == a.CheckValueKind() && k.KCV() != got.KCV {
					t.Errorf("KCV of %v: %v, want %v", a, k.KCV(), got)
				}
			}
		}
	}
	for _, a := range []keys.Algorithm{0, 99} {
		for _, kind := range allKinds {
			if kind.Fits(a) || a.CheckValueKind() != 0 {
				t.Errorf("%v fits %v", kind, a)
			}
		}
	}
}

// TestPublishedCheckValues: E(0) under the keys of the CMAC samples of SP 800-38B is printed there; the base key is that of
// ANSI X9.24-1.
func TestPublishedCheckValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a         keys.Algorithm
		key, want string
	}{
		{keys.AES128, "2b7e151628aed2a6abf7158809cf4f3c", "legacy:7DF76B"},
		{keys.AES192, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "legacy:22452D"},
		{keys.AES256, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "legacy:E568F6"},
		{keys.TDES3, "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", "legacy:C8CC74"},
		{keys.TDES2, "4cf15134a2850dd58a3d10ba80570d38", "legacy:C7679B"},
		{keys.TDES2, "0123456789ABCDEFFEDCBA9876543210", "legacy:08D7B4"},
		{keys.AES128, "2b7e151628aed2a6abf7158809cf4f3c", "cmac:7AD386C376"},  // by OpenSSL
		{keys.TDES2, "1357924680ACE02468BDF13579FECA86", "cmac:99A5420925"},   // by OpenSSL
		{keys.TDES2, "1357924680ACE02468BDF13579FECA86", "cmac-short:99A542"}, // by OpenSSL
	} {
		k, err := keys.NewKey(attributes(c.a), unhex(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		want, err := keys.ParseCheckValue(c.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.CheckValue(want.Kind)
		if err != nil || got != want || k.Verify(want) != nil {
			t.Errorf("%v: %v, %v, want %v", c.a, got, err, want)
		}
	}
}

// TestVerifyRefuses: every other digit, kind and length is another check value, and none equals none.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		k, err := keys.GenerateKey(attributes(a))
		if err != nil {
			t.Fatal(err)
		}
		right, err := k.CheckValue(a.CheckValueKind())
		if err != nil {
			t.Fatal(err)
		}
		digits := right.KCV.String()
		for i := range digits {
			wrong := []byte(digits)
			wrong[i] = "123456789ABCDEF0"[strings.IndexByte("0123456789ABCDEF", wrong[i])]
			v := keys.CheckValue{Kind: right.Kind, KCV: kcv(t, string(wrong))}
			if err := k.Verify(v); !errors.Is(err, keys.ErrCheckValue) || v.KCV.Equal(right.KCV) {
				t.Errorf("%v with %v for %v: %v", a, v, right, err)
			}
		}
		for _, v := range []keys.CheckValue{
			{}, {Kind: right.Kind}, {KCV: right.KCV}, {Kind: right.Kind, KCV: kcv(t, (digits + "0000")[:10])},
			{Kind: right.Kind, KCV: kcv(t, digits[:6]+strings.Repeat("0", 10-len(digits)))},
		} {
			if v != right && !errors.Is(k.Verify(v), keys.ErrCheckValue) {
				t.Errorf("%v with %v: %v", a, v, k.Verify(v))
			}
		}
		if (keys.KCV{}).Equal(keys.KCV{}) || right.KCV.Equal(keys.KCV{}) || !right.KCV.Equal(right.KCV) {
			t.Errorf("%v: Equal of none", a)
		}
		short, long := kcv(t, "123456"), kcv(t, "1234560000")
		if short.Equal(long) || long.Equal(short) {
			t.Error("check values of two lengths are equal")
		}
		if err := (keys.Key{}).Verify(right); !errors.Is(err, keys.ErrCheckValue) {
			t.Errorf("no key: %v", err)
		}
		if err := (keys.Component{}).Verify(right); !errors.Is(err, keys.ErrCheckValue) {
			t.Errorf("no component: %v", err)
		}
	}
}

func kcv(t *testing.T, s string) keys.KCV {
	t.Helper()
	k, err := keys.ParseKCV(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseCheckValue(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"legacy:08D7B4": "legacy:08D7B4", "legacy:08d7b4": "legacy:08D7B4", "cmac:08793E25AB": "cmac:08793E25AB",
		"cmac-short:08793E": "cmac-short:08793E", "hmac:B613679A"[:11]: "hmac:B61367",
		"": "", ":": "", "legacy": "", "legacy:": "", "08D7B4": "", ":08D7B4": "", "Legacy:08D7B4": "", "legacy: 08D7B4": "",
		"legacy:08D7B": "", "legacy:08D7B45": "", "legacy:08D7B4 ": "", " legacy:08D7B4": "", "legacy:08D7B4FF00": "",
		"cmac:08793E": "", "cmac-short:08793E25AB": "", "hmac:08793E25AB": "", "cmac:08793E25AG": "", "cmac:08793E25AB:": "",
		"legacy:08D7B4:08D7B4": "", "sha:08D7B4": "", "legacy:0123456789ABCDEFFEDCBA9876543210": "", "0123456789ABCDEF:FEDCBA9876543210": "",
	} {
		got, err := keys.ParseCheckValue(s)
		if (err == nil) != (want != "") || got.String() != want || err != nil && !errors.Is(err, keys.ErrSyntax) {
			t.Errorf("%q is %q, %v", s, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "FEDCBA98") {
			t.Errorf("the error repeats what it was given: %v", err)
		}
	}
	for _, kind := range allKinds {
		if got, err := keys.ParseKCVKind(kind.String()); err != nil || got != kind {
			t.Errorf("%v reads back as %v, %v", kind, got, err)
		}
	}
	for _, s := range []string{"", "CMAC", "cmac ", "cmac_short", "3"} {
		if got, err := keys.ParseKCVKind(s); !errors.Is(err, keys.ErrSyntax) || got != 0 {
			t.Errorf("kind %q is %v, %v", s, got, err)
		}
	}
	if got := keys.KCVKind(9).String(); got != "KCVKind(9)" || keys.KCVKind(9).Bytes() != 0 {
		t.Errorf("an unknown kind prints as %s", got)
	}
}

func TestCheckValueText(t *testing.T) {
	t.Parallel()
	want, err := keys.ParseCheckValue("cmac:08793E25AB")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want)
	var got keys.CheckValue
	if err != nil || string(text) != `"cmac:08793E25AB"` || json.Unmarshal(text, &got) != nil || got != want {
		t.Errorf("%s, %v reads back as %v", text, err, got)
	}
	if err := json.Unmarshal([]byte(`"cmac:08793E"`), &got); !errors.Is(err, keys.ErrSyntax) {
		t.Errorf("half a check value: %v", err)
	}
	if _, err := json.Marshal(keys.CheckValue{}); err == nil {
		t.Error("no check value was written")
	}
}

// TestFIPSOnly runs itself in a process with Go's FIPS mode enforced: what needs a check value of TDES refuses.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	fipstest.Enforced(t, fipsOnly)
}

func fipsOnly(t *testing.T) {
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, keys.ErrForbidden) {
			t.Errorf("%s: got %v, want ErrForbidden", what, err)
		}
	}
	_, err := keys.GenerateKey(attributes(keys.TDES2))
	refused("a TDES key generated", err)
	raw := []byte("0123456789abcdef")
	_, err = keys.ImportKey(attributes(keys.TDES2), keys.ParityIgnored, raw)
	refused("a TDES key imported", err)
	k, err := keys.NewKey(attributes(keys.TDES2), raw) // such as one that is only carried
	if err != nil {
		t.Fatal(err)
	}
	if !k.KCV().IsZero() {
		t.Error("a TDES key has a check value")
	}
	v, err := k.CheckValue(keys.KCVLegacy)
	refused("the check value of a TDES key", err)
	refused("a TDES key verified", k.Verify(keys.CheckValue{Kind: keys.KCVCMAC}))
	if !v.IsZero() {
		t.Errorf("a TDES key has the check value %v", v)
	}
	_, err = keys.Split(k, keys.ParityAdjusted, 2)
	refused("a TDES key split", err)
	s := sheets(t, keys.TDES2, "0123456789ABCDEFFEDCBA9876543210", "11111111111111112222222222222222")
	_, err = keys.Combine(attributes(keys.TDES2), keys.ParityAdjusted, s)
	refused("a TDES key combined", err)
	k, err = keys.GenerateKey(attributes(keys.AES128))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Split(k, keys.ParityAdjusted, 2); err != nil {
		t.Error(err)
	}
}
