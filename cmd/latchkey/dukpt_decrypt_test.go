package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
)

const (
	tdesTestKey = "0123456789ABCDEFFEDCBA9876543210"
	aesTestKey  = "FEDCBA9876543210F1F1F1F1F1F1F1F1"
	tdesTestKSN = "FFFF9876543210E00008"
	aesTestKSN  = "123456789012345600000007"
)

// encrypted is the ciphertext of the end that sends in the direction of s.
func encrypted(t *testing.T, bdk, ksn string, s dukpt.DataSpec, clear string) string {
	t.Helper()
	k, err := dukpt.ParseKSNHex(ksn)
	if err != nil {
		t.Fatal(err)
	}
	key, err := readHexKey(&console{stdin: strings.NewReader(bdk)}, "-", k.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	e, err := beginEnds(key, k)
	if err != nil {
		t.Fatal(err)
	}
	defer e.end()
	encrypt := e.request.EncryptData
	if s.Direction == dukpt.Response {
		encrypt = e.host.EncryptResponse
	}
	ct, err := encrypt(nil, s, []byte(clear))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(ct)
}

// decrypted runs the command.
func decrypted(t *testing.T, d decryption, bdk string) (o opened, err error) {
	t.Helper()
	var out bytes.Buffer
	d.bdkFile, d.reveal = "-", true
	if d.kind == "" {
		d.kind = kindCard
	}
	if d.padded == "" {
		d.padded = "none"
	}
	err = d.run(&console{stdin: strings.NewReader(bdk), stdout: &out, format: "json"})
	if err != nil {
		if out.Len() > 0 {
			t.Errorf("%+v: failed, and shows %s", d, &out)
		}
		return o, err
	}
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	return o, nil
}

// TestDecryptEveryWay opens what the other end encrypted in every way that the library has, by the flags and by trying.
func TestDecryptEveryWay(t *testing.T) {
	t.Parallel()
	const track = ";4111111111111111=30121010000000?" // no whole block, and no end that looks like padding
	opens := 0
	for _, b := range []struct {
		bdk, ksn string
		types    []string
	}{
		{tdesTestKey, tdesTestKSN, []string{""}},
		{aesTestKey, aesTestKSN, []string{"AES128", "2TDEA", "3TDEA"}},
		{aesTestKey + aesTestKey, aesTestKSN, []string{"AES128", "AES192", "AES256", "2TDEA", "3TDEA"}},
	} {
		ksn, err := dukpt.ParseKSNHex(b.ksn)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range profiles {
			if (p.spec.Key != 0) != (ksn.Scheme() == dukpt.AES) {
				continue
			}
			for _, direction := range []dukpt.Direction{dukpt.Request, dukpt.Response, dukpt.Both} {
				if ksn.Scheme() == dukpt.AES && (direction == dukpt.Both) != (p.name == "aes-both") {
					continue
				}
				for _, typ := range b.types {
					for _, mode := range []dukpt.CipherMode{dukpt.CBC, dukpt.ECB} {
						for _, padding := range []dukpt.DataPadding{dukpt.ZeroPadding, dukpt.ISO9797M2Padding, dukpt.PKCS7Padding} {
							spec := dukpt.DataSpec{Profile: p.spec.Profile, Direction: direction, Mode: mode, Padding: padding}
							if typ != "" {
								if spec.Key, err = dukpt.ParseWorkingKey(typ); err != nil {
									t.Fatal(err)
								}
							}
							d := decryption{
								ksn: b.ksn, cipherText: encrypted(t, b.bdk, b.ksn, spec, track), profile: p.name, mode: strings.ToLower(mode.String()),
								key: typ, direction: direction.String(), padded: padding.String(),
							}
							want := opened{
								KSN: b.ksn, Profile: p.name, Mode: mode.String(), Key: typ, Direction: direction.String(), Padding: padding.String(),
								Kind: kindCard, MaskedPAN: "411111******1111", Bytes: len(track), Clear: track,
							}
							opens += checkOpens(t, d, b.bdk, want)
						}
					}
				}
			}
		}
	}
	if want := 2 * 3 * 2 * (5*3 + 3*3 + 5*3); opens != want {
		t.Errorf("%d opened, want %d", opens, want)
	}
}

// checkOpens opens in the way that is named, and in the one that is found.
func checkOpens(t *testing.T, d decryption, bdk string, want opened) (opens int) {
	t.Helper()
	name := fmt.Sprintf("%s %s %s %s %s", d.profile, d.mode, d.key, d.direction, d.padded)
	for _, profile := range []string{d.profile, "auto"} {
		auto := d
		if auto.profile = profile; profile == "auto" {
			auto.mode, auto.key = "", ""
		}
		got, err := decrypted(t, auto, bdk)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		opens++
		if profile == "auto" && got.Profile == "idtech" && want.Profile == "verifone" {
			got.Profile = want.Profile // two names of one way
		}
		got.BaseKCV = ""
		if d.padded == "zero" {
			got.Bytes = want.Bytes
		}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	return opens
}

// TestDecryptPublished opens published AES ciphertexts in both directions.
func TestDecryptPublished(t *testing.T) {
	t.Parallel()
	compared := map[string]int{}
	for _, v := range readVectors(t, "dukpt-aes.json") {
		direction := map[string]string{"data_request": "request", "data_response": "response"}[v.Feature]
		if direction == "" {
			continue
		}
		compared[direction]++
		d := decryption{
			ksn: v.KSN, cipherText: v.Ciphertext, iv: v.IV, profile: "aes", key: v.KeyType, direction: direction,
		}
		got, err := decrypted(t, d, v.BDK)
		if err != nil {
			t.Fatalf("%s: %v", v.ID, err)
		}
		if got.Clear != v.Data {
			t.Errorf("%s: got %q, want %q", v.ID, got.Clear, v.Data)
		}
	}
	if compared["request"] == 0 || compared["response"] == 0 {
		t.Errorf("compared: %v", compared)
	}
}

// TestDecryptRefuses wants the exit code and nothing shown.
func TestDecryptRefuses(t *testing.T) {
	t.Parallel()
	swipe := encrypted(t, aesTestKey, aesTestKSN, dukpt.DataSpec{Direction: dukpt.Request, Key: dukpt.KeyAES128, Mode: dukpt.CBC,
		Padding: dukpt.PKCS7Padding}, ";4111111111111111=3012101?")
	for _, c := range []struct {
		name string
		code exit.Code
		d    decryption
		says string
	}{
		{"mode", exit.Usage, decryption{mode: "ctr"}, "cipher mode"},
		{"key type", exit.Usage, decryption{key: "AES512"}, "AES512"},
		{"HMAC key", exit.Usage, decryption{key: "HMAC128"}, "HMAC128"},
		{"direction", exit.Usage, decryption{direction: "sideways"}, "sideways"},
		{"padding", exit.Usage, decryption{padded: "ones"}, "ones"},
		{"no hexadecimal IV", exit.Usage, decryption{iv: "0x"}, "--iv"},
		{"short IV", exit.Usage, decryption{iv: "00"}, "IV"},
		{"IV for ECB", exit.Usage, decryption{profile: "aes", mode: "ecb", iv: strings.Repeat("00", 16)}, "ECB takes no IV"},
		{"IV for ECB, tried", exit.Usage, decryption{mode: "ecb", iv: strings.Repeat("00", 16)}, "does not go"},
		{"profile and direction", exit.Usage, decryption{profile: "aes", direction: "both"}, "does not go"},
		{"both ways, one asked for", exit.Usage, decryption{profile: "aes-both", direction: "response"}, "does not go"},
		{"too strong", exit.Usage, decryption{profile: "aes", key: "AES256"}, "stronger"},
		{"too strong, tried", exit.Usage, decryption{key: "AES192"}, "stronger"},
		{"two sources", exit.Usage, decryption{cipherText: "00", cipherFile: "x"}, "name one"},
		{"both from standard input", exit.Usage, decryption{cipherFile: "-"}, "cannot both"},
		{"no file", exit.NotFound, decryption{cipherFile: "missing/file"}, "missing/file"},
		{"other padding", exit.Verification, decryption{padded: "iso9797-method2"}, "no profile gives card data"},
		{"other padding, named", exit.Verification, decryption{profile: "aes", padded: "iso9797-method2"}, "profile aes gives no card data"},
		{"other padding, raw", exit.Verification, decryption{profile: "aes", padded: "iso9797-method2", kind: kindRaw}, "does not come off"},
		{"other direction", exit.Verification, decryption{direction: "response"}, "no profile gives card data"},
		{"other mode", exit.Verification, decryption{mode: "ecb", padded: "none"}, "no profile gives card data"},
		{"other key", exit.Verification, decryption{key: "3TDEA", padded: "none"}, "no profile gives card data"},
		{"raw with a card number", exit.Refused, decryption{profile: "aes", kind: kindRaw}, "holds a card number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.d.ksn = aesTestKSN
			if c.d.cipherText == "" && c.d.cipherFile == "" {
				c.d.cipherText = swipe
			}
			if c.d.profile == "" {
				c.d.profile = "auto"
			}
			if c.d.padded == "" {
				c.d.padded = "pkcs7"
			}
			_, err := decrypted(t, c.d, aesTestKey)
			if exit.CodeOf(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("exit code %d, %v; want %d and %q", exit.CodeOf(err), err, c.code, c.says)
			}
		})
	}
	if o, err := decrypted(t, decryption{ksn: aesTestKSN, cipherText: swipe, profile: "auto", padded: "pkcs7"}, aesTestKey); err != nil || o.Profile != "aes" {
		t.Errorf("the right way: %+v, %v", o, err)
	}
}

// TestDecryptLastKey opens data under the last key of a terminal, which has none after it.
func TestDecryptLastKey(t *testing.T) {
	t.Parallel()
	const last = "FFFF9876543210FFF800"
	spec := dukpt.DataSpec{Direction: dukpt.Response, Profile: dukpt.DataMask, Mode: dukpt.ECB}
	d := decryption{ksn: last, cipherText: encrypted(t, tdesTestKey, last, spec, "no card!"), profile: "mask", mode: "ecb", direction: "response", kind: kindRaw}
	if o, err := decrypted(t, d, tdesTestKey); err != nil || o.Clear != "6E6F206361726421" {
		t.Errorf("%+v, %v", o, err)
	}
}
