package keys_test

import (
	"bytes"
	"crypto/aes"
	stddes "crypto/des"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
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
		"unknown mode":      func(a *keys.Attributes) { a.Mode = 'Z' },
		"mode of MACs":      func(a *keys.Attributes) { a.Mode = keys.ModeGenVerify },
		"mode to derive":    func(a *keys.Attributes) { a.Mode = keys.ModeDerive },
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
	for c := range 256 {
		m, err := keys.ParseMode(byte(c))
		if known := strings.IndexByte("BCDEGNSTVXY", byte(c)) >= 0; known != (err == nil) || known && m.String() != string(rune(c)) {
			t.Errorf("mode %q: %v, %v", rune(c), m, err)
		}
		e, err := keys.ParseExportability(byte(c))
		if known := strings.IndexByte("ENS", byte(c)) >= 0; known != (err == nil) || known && e.String() != string(rune(c)) {
			t.Errorf("exportability %q: %v, %v", rune(c), e, err)
		}
	}
	if got := keys.Algorithm(77).String(); got != "Algorithm(77)" {
		t.Errorf("an unknown algorithm prints as %s", got)
	}
	for _, s := range []string{"", "AES", "aes-128", "AES-128 ", "TDES2"} {
		if a, err := keys.ParseAlgorithm(s); err == nil || a != 0 {
			t.Errorf("algorithm %q is %v", s, a)
		}
	}
	for _, s := range []string{"B0", "B1", "D0", "K0", "K1", "M3", "M6", "M7", "P0"} {
		if u, err := keys.ParseUsage(s); err != nil || string(u) != s {
			t.Errorf("usage %q is %v, %v", s, u, err)
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

// TestFingerprintIgnoresParity: a TDES key with other parity bits is the same key.
func TestFingerprintIgnoresParity(t *testing.T) {
	t.Parallel()
	under := secret.From([]byte("fingerprint key"))
	for _, a := range all {
		k, err := keys.GenerateKey(attributes(a))
		if err != nil {
			t.Fatal(err)
		}
		want := k.Fingerprint(under)
		kept := bytes.Clone(k.Material().Expose())
		for i := range kept {
			flipped := bytes.Clone(kept)
			flipped[i] ^= 1
			other, err := keys.NewKey(attributes(a), flipped)
			if err != nil {
				t.Fatal(err)
			}
			if same := other.Fingerprint(under) == want; same != a.IsTDES() {
				t.Errorf("%s: low bit of byte %d flipped: same fingerprint %v", a, i, same)
			}
			if !bytes.Equal(other.Material().Expose(), flipped) {
				t.Fatalf("%s: taking a fingerprint changed the parity of the key", a)
			}
			flipped[i] ^= 3
			if other, err = keys.NewKey(attributes(a), flipped); err != nil {
				t.Fatal(err)
			}
			if other.Fingerprint(under) == want {
				t.Errorf("%s: byte %d does not count", a, i)
			}
		}
		if !bytes.Equal(k.Material().Expose(), kept) {
			t.Errorf("%s: taking a fingerprint changed the key", a)
		}
	}
	if !(keys.Key{}).Fingerprint(under).IsZero() {
		t.Error("no key has a fingerprint")
	}
	defer func() {
		if recover() == nil {
			t.Error("a fingerprint without a key was given")
		}
	}()
	(keys.Key{}).Fingerprint(secret.Bytes{})
}

// TestFingerprintOfLongSpelling: some systems write a 2TDEA key as three parts, the first one again.
func TestFingerprintOfLongSpelling(t *testing.T) {
	t.Parallel()
	under := secret.From([]byte("fingerprint key"))
	short, err := keys.GenerateKey(attributes(keys.TDES2))
	if err != nil {
		t.Fatal(err)
	}
	spelled := append(bytes.Clone(short.Material().Expose()), short.Material().Expose()[:8]...)
	spelled[23] ^= 1
	long, err := keys.NewKey(attributes(keys.TDES3), spelled)
	if err != nil {
		t.Fatal(err)
	}
	if short.Fingerprint(under) != long.Fingerprint(under) || short.KCV() != long.KCV() {
		t.Error("a 2TDEA key in 24 bytes is another key")
	}
	spelled[23] ^= 2
	if long, err = keys.NewKey(attributes(keys.TDES3), spelled); err != nil {
		t.Fatal(err)
	}
	if short.Fingerprint(under) == long.Fingerprint(under) {
		t.Error("a 3TDEA key is its first two parts")
	}
}

// TestFingerprintsDiffer: the same bytes under another algorithm are another key.
func TestFingerprintsDiffer(t *testing.T) {
	t.Parallel()
	under := secret.From([]byte("fingerprint key"))
	material := []byte("0123456789abcdef")
	seen := make(map[keys.Fingerprint]keys.Algorithm)
	for _, a := range []keys.Algorithm{keys.TDES2, keys.AES128, keys.HMAC128} {
		k, err := keys.NewKey(attributes(a), material)
		if err != nil {
			t.Fatal(err)
		}
		f := k.Fingerprint(under)
		if b, ok := seen[f]; ok {
			t.Errorf("%s and %s have one fingerprint", a, b)
		}
		seen[f] = a
	}
}

// TestKCV holds the check values to their definitions, by the standard library alone.
func TestKCV(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		k, err := keys.GenerateKey(attributes(a))
		if err != nil {
			t.Fatal(err)
		}
		raw := k.Material().Expose()
		var want []byte
		switch {
		case a.IsTDES():
			b, err := stddes.NewTripleDESCipher(append(bytes.Clone(raw), raw[:8]...)[:24])
			if err != nil {
				t.Fatal(err)
			}
			want = make([]byte, 8)
			b.Encrypt(want, want)
			want = want[:3]
		case a.IsAES():
			want = cmacOfZeros(t, raw)[:5]
		default:
			h := hmac.New(sha256.New, raw)
			want = h.Sum(nil)[:3]
		}
		if got := k.KCV().String(); got != fmt.Sprintf("%X", want) {
			t.Errorf("%s: check value %s, want %X", a, got, want)
		}
	}
	if kcv := (keys.Key{}).KCV(); !kcv.IsZero() || kcv.String() != "" {
		t.Errorf("no key has the check value %s", kcv)
	}
}

// cmacOfZeros is the CMAC of one block of zeros: for a full block, E(K1) with K1 the doubled E(0).
func cmacOfZeros(t *testing.T, key []byte) []byte {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := make([]byte, 16)
	b.Encrypt(sum, sum)
	n := new(big.Int).SetBytes(sum)
	n.Lsh(n, 1)
	if n.Bit(128) == 1 {
		n.SetBit(n, 128, 0)
		n.Xor(n, big.NewInt(0x87))
	}
	n.FillBytes(sum)
	b.Encrypt(sum, sum)
	return sum
}

func TestTextForms(t *testing.T) {
	t.Parallel()
	k, err := keys.NewKey(attributes(keys.AES128), []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	type record struct {
		Algorithm   keys.Algorithm
		KCV         keys.KCV
		Fingerprint keys.Fingerprint
	}
	want := record{keys.AES128, k.KCV(), k.Fingerprint(secret.From([]byte("fingerprint key")))}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got record
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%s reads back as %v, %v", text, got, err)
	}
	for _, bad := range []string{`{"Algorithm":"AES"}`, `{"KCV":"12"}`, `{"KCV":"12345G"}`, `{"Fingerprint":"12"}`} {
		if err := json.Unmarshal([]byte(bad), new(record)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if _, err := json.Marshal(record{}); err == nil {
		t.Error("a record without algorithm was written")
	}
}

func TestStrength(t *testing.T) {
	t.Parallel()
	for a, want := range map[keys.Algorithm]int{
		keys.TDES2: 80, keys.TDES3: 112, keys.AES128: 128, keys.AES192: 192, keys.AES256: 256,
		keys.HMAC128: 128, keys.HMAC192: 192, keys.HMAC256: 256, 0: 0, 99: 0,
	} {
		if got := a.StrengthBits(); got != want {
			t.Errorf("%s: %d bits, want %d", a, got, want)
		}
	}
}

// TestKeyStrength: equal outer parts of 3TDEA count, those of AES-192 are chance.
func TestKeyStrength(t *testing.T) {
	t.Parallel()
	outer := []byte("01234567abcdefgh01234567")
	for _, c := range []struct {
		name string
		a    keys.Attributes
		raw  []byte
		want int
	}{
		{"2TDEA", attributes(keys.TDES2), outer[:16], 80},
		{"3TDEA", attributes(keys.TDES3), []byte("01234567abcdefghABCDEFGH"), 112},
		{"3TDEA with equal outer parts", attributes(keys.TDES3), outer, 80},
		{"3TDEA, equal but for parity", attributes(keys.TDES3), []byte("01234567abcdefgh10325476"), 80},
		{"AES-192 with equal outer parts", attributes(keys.AES192), outer, 192},
		{"HMAC-192 with equal outer parts", attributes(keys.HMAC192), outer, 192},
		{"AES-256", attributes(keys.AES256), []byte("0123456789abcdef0123456789abcdef"), 256},
	} {
		if c.a.Algorithm.IsHMAC() {
			c.a.Usage, c.a.Mode = keys.UsageHMAC, keys.ModeGenVerify
		}
		if c.a.Algorithm == keys.TDES3 {
			c.a.Usage, c.a.Mode = keys.UsagePIN, keys.ModeEncrypt
		}
		k, err := keys.NewKey(c.a, c.raw)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := k.StrengthBits(); got != c.want {
			t.Errorf("%s: %d bits, want %d", c.name, got, c.want)
		}
		k.Wipe()
		if got := k.StrengthBits(); got != 0 {
			t.Errorf("%s, wiped: %d bits", c.name, got)
		}
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
	type deep struct {
		inner *holder
		list  []holder
		byKey map[string]*keys.Key
		Open  keys.Key
	}
	d := deep{&holder{k}, []holder{{k}}, map[string]*keys.Key{"k": &k}, k}
	var out strings.Builder
	for _, v := range []any{k, &k, holder{k}, &holder{k}, []keys.Key{k}, [1]*keys.Key{&k}, map[string]keys.Key{"k": k}, d, &d, struct{ keys.Key }{k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%q", "%d", "%p", "%o", "%b", "%c", "%U", "%t", "%e"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("k", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("k", "k", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	encoded := base64.StdEncoding.EncodeToString(raw)[:16]
	for _, leak := range []string{string(raw), string(raw[:8]), hex.EncodeToString(raw[:8]), strings.ToUpper(hex.EncodeToString(raw[8:])), strings.Trim(fmt.Sprint(raw[:4]), "[]"), encoded} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q", leak)
		}
	}
	if got := fmt.Sprintf("%x", k); got != "[AES-128 key D0 N N]" {
		t.Errorf("a key prints as %s", got)
	}
	if got := fmt.Sprint(keys.Key{}); got != "[no key]" {
		t.Errorf("no key prints as %s", got)
	}
	if _, err := json.Marshal(k); err == nil {
		t.Error("a key was encoded")
	}
	if b, err := k.MarshalBinary(); err == nil {
		t.Errorf("a key was encoded as %x", b)
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

func ExampleKey_Fingerprint() {
	attributes := keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}
	bdk, err := keys.GenerateKey(attributes)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bdk.Wipe()
	attributes.Usage, attributes.Mode = keys.UsageData, keys.ModeBoth
	again, err := keys.NewKey(attributes, bdk.Material().Expose())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer again.Wipe()

	under := secret.From([]byte("known to this host only"))
	fmt.Println(bdk, again, bdk.Fingerprint(under) == again.Fingerprint(under))
	// Output: [AES-128 key B0 X N] [AES-128 key D0 B N] true
}
