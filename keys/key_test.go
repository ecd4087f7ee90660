package keys_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

var all = []keys.Algorithm{
	keys.TDES2, keys.TDES3, keys.AES128, keys.AES192, keys.AES256, keys.HMAC128, keys.HMAC192, keys.HMAC256,
}

func attributes(a keys.Algorithm) keys.Attributes {
	u := keys.UsageData
	if a.IsHMAC() {
		u = keys.UsageHMAC
	}
	return keys.Attributes{Algorithm: a, Usage: u, Mode: keys.ModeNone, Exportability: keys.NonExportable}
}

func TestNewKeyRefusesEveryOtherLength(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		for n := range 50 {
			material := make([]byte, n)
			for i := range material {
				material[i] = byte(3*i + 1)
			}
			k, err := keys.NewKey(attributes(a), material)
			if (err == nil) != (n == a.KeyBytes()) {
				t.Errorf("%s of %d bytes: %v", a, n, err)
			}
			if err == nil && !bytes.Equal(k.Material().Expose(), material) {
				t.Errorf("%s: the bytes changed", a)
			}
		}
	}
}

func TestNewKeyRefusesWeakTDES(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a        keys.Algorithm
		material string
	}{
		"equal halves":             {keys.TDES2, "0123456789ABCDEF0123456789ABCDEF"},
		"equal halves, parity off": {keys.TDES2, "0123456789ABCDEF0022446688AACCEE"},
		"first two equal":          {keys.TDES3, "0123456789ABCDEF0123456789ABCDEFFEDCBA9876543210"},
		"last two equal":           {keys.TDES3, "FEDCBA98765432100123456789ABCDEF0123456789ABCDEF"},
	} {
		raw, err := hex.DecodeString(c.material)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.NewKey(attributes(c.a), raw); !errors.Is(err, keys.ErrWeak) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	good := attributes(keys.AES128)
	for name, change := range map[string]func(*keys.Attributes){
		"no algorithm":      func(a *keys.Attributes) { a.Algorithm = 0 },
		"unknown algorithm": func(a *keys.Attributes) { a.Algorithm = 200 },
		"no usage":          func(a *keys.Attributes) { a.Usage = "" },
		"unknown usage":     func(a *keys.Attributes) { a.Usage = "ZZ" },
		"usage of TDES":     func(a *keys.Attributes) { a.Usage = keys.UsageMACRetail },
		"usage of HMAC":     func(a *keys.Attributes) { a.Usage = keys.UsageHMAC },
		"no mode":           func(a *keys.Attributes) { a.Mode = 0 },
		"no exportability":  func(a *keys.Attributes) { a.Exportability = 0 },
	} {
		bad := good
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s is valid", name)
		}
		if _, err := keys.GenerateKey(bad); err == nil {
			t.Errorf("%s: a key was made", name)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, a := range all {
		if back, err := keys.ParseAlgorithm(a.String()); err != nil || back != a {
			t.Errorf("%s reads back as %v, %v", a, back, err)
		}
	}
	for _, s := range []string{"", "B", "B00", "b0", "XX"} {
		if _, err := keys.ParseUsage(s); err == nil {
			t.Errorf("usage %q is known", s)
		}
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		k, err := keys.GenerateKey(attributes(a))
		if err != nil {
			t.Fatal(err)
		}
		other, err := keys.GenerateKey(attributes(a))
		if err != nil {
			t.Fatal(err)
		}
		if k.Material().Equal(other.Material()) {
			t.Errorf("%s: two keys are equal", a)
		}
		if a.IsTDES() {
			for _, b := range k.Material().Expose() {
				if bits.OnesCount8(b)%2 != 1 {
					t.Errorf("%s: parity of %02x", a, b)
				}
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	material := bytes.Repeat([]byte{7}, 16)
	k, err := keys.NewKey(attributes(keys.AES128), material)
	if err != nil {
		t.Fatal(err)
	}
	renamed := attributes(keys.AES128)
	renamed.Usage, renamed.Mode = keys.UsagePIN, keys.ModeEncrypt
	same, err := keys.NewKey(renamed, material)
	if err != nil {
		t.Fatal(err)
	}
	one, two := secret.From([]byte("one")), secret.From([]byte("two"))
	if k.Fingerprint(one) != same.Fingerprint(one) {
		t.Error("the same key under another usage is another key")
	}
	if k.Fingerprint(one) == k.Fingerprint(two) {
		t.Error("the fingerprint is not keyed")
	}
	f := k.Fingerprint(one)
	if back, err := keys.ParseFingerprint(f.String()); err != nil || back != f {
		t.Errorf("%s reads back as %s, %v", f, back, err)
	}
	for _, s := range []string{"", "00", strings.Repeat("0", 31), strings.Repeat("g", 32)} {
		if _, err := keys.ParseFingerprint(s); err == nil {
			t.Errorf("fingerprint %q", s)
		}
		if _, err := keys.ParseKCV(s); err == nil {
			t.Errorf("check value %q", s)
		}
	}
	kcv := k.KCV()
	if back, err := keys.ParseKCV(kcv.String()); err != nil || back != kcv || kcv.IsZero() {
		t.Errorf("%s reads back as %s, %v", kcv, back, err)
	}
}

func TestWipe(t *testing.T) {
	t.Parallel()
	k, err := keys.GenerateKey(attributes(keys.AES128))
	if err != nil {
		t.Fatal(err)
	}
	shared, own := k, k.Clone()
	k.Wipe()
	if !shared.IsZero() || own.IsZero() || !k.KCV().IsZero() {
		t.Error("Wipe reaches copies, not clones")
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	raw := []byte("sixteen secrets!")
	k, err := keys.NewKey(attributes(keys.AES128), raw)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct{ hidden keys.Key }
	var out strings.Builder
	for _, v := range []any{k, &k, holder{k}, &holder{k}, []keys.Key{k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("k", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("k", "k", v)
	}
	for _, leak := range []string{string(raw), string(raw[:8]), hex.EncodeToString(raw[:8]), strings.ToUpper(hex.EncodeToString(raw[8:])), strings.Trim(fmt.Sprint(raw[:4]), "[]")} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q", leak)
		}
	}
}

func ExampleNewKey() {
	material, err := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	if err != nil {
		fmt.Println(err)
		return
	}
	bdk, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, material)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bdk.Wipe()
	fmt.Println(bdk.Attributes().Algorithm, bdk.KCV())
	// Output: 2TDEA 08D7B4
}
