package hsm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func sampleRecord(t testing.TB) record {
	t.Helper()
	k, err := keys.NewKey(bdkAttributes(keys.AES128), sampleBase)
	if err != nil {
		t.Fatal(err)
	}
	fp, err := fingerprintOf(keys.AES128, sampleBase)
	if err != nil {
		t.Fatal(err)
	}
	return record{
		id: must(keyset.ParseKeyRef("0123456789ABCDEFGHJKMNPQRS")), environment: keyset.Test, usage: keys.UsageBDK, mode: keys.ModeDerive,
		exports: keys.NonExportable, created: time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC), kcv: k.KCV(), fingerprint: fp,
	}
}

const sampleText = "latchkey-key-1 0123456789ABCDEFGHJKMNPQRS test B0 X N 2026-11-26T01:02:03Z "

func TestRecord(t *testing.T) {
	t.Parallel()
	r := sampleRecord(t)
	if !strings.HasPrefix(r.String(), sampleText) {
		t.Errorf("the record reads %s", r)
	}
	if got, err := parseRecord([]byte(r.String())); err != nil || got != r {
		t.Errorf("got %v, %v; want %v", got, err, r)
	}
	v := variant{r.id, r.fingerprint}
	if got, err := parseVariant([]byte(v.String())); err != nil || got != v {
		t.Errorf("got %v, %v; want %v", got, err, v)
	}
	for name, change := range map[string]func(string) string{
		"nothing": func(string) string { return "" }, "another version": func(s string) string { return strings.Replace(s, "key-1", "key-2", 1) },
		"a name":      func(s string) string { return strings.Replace(s, "0123456789ABCDEFGHJKMNPQRS", "alias/a", 1) },
		"environment": func(s string) string { return strings.Replace(s, "test", "play", 1) },
		"usage":       func(s string) string { return strings.Replace(s, "B0", "Z9", 1) }, "mode": func(s string) string { return strings.Replace(s, " X ", " ? ", 1) },
		"long mode": func(s string) string { return strings.Replace(s, " X ", " XX ", 1) }, "no mode": func(s string) string { return strings.Replace(s, " X ", "  ", 1) },
		"exportability": func(s string) string { return strings.Replace(s, " N ", " Q ", 1) },
		"time":          func(s string) string { return strings.Replace(s, "11-26", "13-26", 1) },
		"zone of time":  func(s string) string { return strings.Replace(s, "03Z", "03+00:00", 1) },
		"kcv":           func(s string) string { return strings.Replace(s, r.kcv.String(), "12", 1) },
		"case of kcv":   func(s string) string { return strings.Replace(s, r.kcv.String(), strings.ToLower(r.kcv.String()), 1) },
		"fingerprint":   func(s string) string { return s[:len(s)-1] }, "more": func(s string) string { return s + " " }, "blanks": func(s string) string { return strings.Replace(s, " ", "  ", 1) },
		"too long": func(s string) string { return s + strings.Repeat("0", maxRecord) },
	} {
		if got, err := parseRecord([]byte(change(r.String()))); !errors.Is(err, errRecord) || got != (record{}) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		if text := change(v.String()); text != v.String() {
			if got, err := parseVariant([]byte(text)); !errors.Is(err, errRecord) || got != (variant{}) {
				t.Errorf("variant, %s: got %v, %v", name, got, err)
			}
		}
	}
	for text, want := range map[string]bool{
		"": false, "latchkey-key-1": false, "latchkey-key-1 ": true, "latchkey-c0-1 x": true, "\x01\x02": false, "latchkey-key-2 ": false,
	} {
		if isRecord([]byte(text)) != want {
			t.Errorf("isRecord(%q) is %v", text, !want)
		}
	}
}

// FuzzParseRecord: what is taken is spelled in one way only.
func FuzzParseRecord(f *testing.F) {
	r := sampleRecord(f)
	f.Add([]byte(r.String()))
	f.Add([]byte(variant{r.id, r.fingerprint}.String()))
	f.Add([]byte(sampleText))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseRecord(b); err == nil && got.String() != string(b) {
			t.Errorf("%q reads as %v", b, got)
		}
		if got, err := parseVariant(b); err == nil && got.String() != string(b) {
			t.Errorf("%q reads as %v", b, got)
		}
	})
}

func TestUsesOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		a       keys.Attributes
		derives bool
		want    []use
	}{
		"AES base key":          {bdkAttributes(keys.AES256), true, []use{useDerive}},
		"AES base key, outside": {bdkAttributes(keys.AES256), false, []use{useEncrypt}},
		"TDES base key":         {bdkAttributes(keys.TDES2), true, []use{useDerive}},
		"TDES, outside":         {bdkAttributes(keys.TDES2), false, []use{useEncrypt}},
		"3TDEA base key":        {bdkAttributes(keys.TDES3), true, nil},
		"PIN key":               {attributesFor(keys.TDES3, keys.UsagePIN, keys.ModeEncrypt), true, []use{useEncrypt}},
		"data key":              {attributesFor(keys.AES128, keys.UsageData, keys.ModeBoth), false, []use{useEncrypt, useDecrypt}},
		"initial key":           {attributesFor(keys.AES128, keys.UsageInitialKey, keys.ModeDerive), true, nil},
		"key encryption":        {attributesFor(keys.AES128, keys.UsageKEK, keys.ModeBoth), true, nil},
		"HMAC":                  {attributesFor(keys.HMAC256, keys.UsageHMAC, keys.ModeGenVerify), true, nil},
	} {
		got, err := usesOf(tt.a, tt.derives, false)
		if len(got) != len(tt.want) || (err != nil) != (tt.want == nil) || err != nil && !errors.Is(err, ErrAttributes) {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: got %v, want %v", name, got, tt.want)
			}
		}
	}
}
