package dukpt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// testRoles begins one transaction of a base key on both sides.
func testRoles(t testing.TB, b testBase, n uint32) roles {
	t.Helper()
	ksn, err := b.id.AtOrdinal(n)
	if err != nil {
		t.Fatal(err)
	}
	host, err := b.base.Begin(ksn)
	if err != nil {
		t.Fatal(err)
	}
	ik, err := b.base.Derive(b.id)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := terminalAt(ik, ksn)
	if err != nil {
		t.Fatal(err)
	}
	return roles{host, tx}
}

func testPIN(t testing.TB, pinDigits, panDigits string) (pin.PIN, pin.PAN) {
	t.Helper()
	p, err := pin.ParsePIN([]byte(pinDigits))
	if err != nil {
		t.Fatal(err)
	}
	return p, testPAN(t, panDigits)
}

func testPAN(t testing.TB, digits string) pin.PAN {
	t.Helper()
	pan, err := pin.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	return pan
}

// formatOf is the format of PIN blocks under a scheme.
func formatOf(s Scheme) pin.Format {
	if s == TDES {
		return pin.Format0
	}
	return pin.Format4
}

// dataSpecs returns every valid specification of a direction that keys of the base can serve.
func dataSpecs(b testBase, d Direction) []DataSpec {
	var out []DataSpec
	for _, mode := range []CipherMode{CBC, ECB} {
		if b.id.Scheme() == TDES {
			for p := DataOneWay; p <= DataBareKey; p++ {
				out = append(out, DataSpec{Direction: d, Profile: p, Mode: mode})
			}
			continue
		}
		for w := KeyAES128; w <= b.base.family.key; w++ {
			out = append(out, DataSpec{Direction: d, Key: w, Mode: mode})
		}
	}
	return out
}

func TestDataBothWays(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 77)
		plain := []byte("%B4111111111111111^TEST/CARD^3012201000000000?\x00\x00")
		seen := map[string]DataSpec{}
		for _, d := range []Direction{Request, Response, Both} {
			for _, spec := range dataSpecs(b, d) {
				if d != Response {
					ct, err := r.term.EncryptData([]byte("x"), spec, plain)
					if err != nil || len(ct) != 1+len(plain) || ct[0] != 'x' {
						t.Fatalf("%s %+v: EncryptData = %X, %v", b.name, spec, ct, err)
					}
					got, err := r.host.DecryptData([]byte("y"), spec, ct[1:])
					if err != nil || string(got) != "y"+string(plain) {
						t.Errorf("%s %+v: DecryptData = %q, %v", b.name, spec, got, err)
					}
					if d == Request && (b.id.Scheme() == AES || spec.Profile <= DataMask) {
						seen["request "+string(ct)] = spec
					}
				}
				if d != Request {
					ct, err := r.host.EncryptResponse(nil, spec, plain)
					if err != nil {
						t.Fatalf("%s %+v: EncryptResponse: %v", b.name, spec, err)
					}
					got, err := r.term.DecryptResponse(nil, spec, ct)
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%s %+v: DecryptResponse = %q, %v", b.name, spec, got, err)
					}
					if other, ok := seen["request "+string(ct)]; ok && d == Response {
						t.Errorf("%s: request %+v and response %+v share a key", b.name, other, spec)
					}
				}
			}
		}
	}
}

// TestWorkingKeysWiped looks at the scratch memory after each operation, good or refused.
func TestWorkingKeysWiped(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 12)
		scheme, msg := b.id.Scheme(), make([]byte, 16)
		request, mac := scheme.DefaultData(), scheme.DefaultMAC()
		response := request
		response.Direction = Response
		f := formatOf(scheme)
		p, pan := testPIN(t, "1234", "4111111111111111")
		zone, err := zoneKey(f)
		if err != nil {
			t.Fatal(err)
		}
		target := PINTarget{Format: f, PAN: pan, Key: zone}
		for name, f := range map[string]func() error{
			"EncryptPIN":      func() error { _, err := r.term.EncryptPIN(nil, f, p, pan); return err },
			"EncryptData":     func() error { _, err := r.term.EncryptData(nil, request, msg); return err },
			"MAC":             func() error { _, err := r.term.MAC(nil, mac, msg); return err },
			"VerifyResponse":  func() error { return wantVerify(r.term.VerifyResponse(mac, msg, msg)) },
			"DecryptResponse": func() error { _, err := r.term.DecryptResponse(nil, response, msg); return err },
			"DecryptData":     func() error { _, err := r.host.DecryptData(nil, request, msg); return err },
			"VerifyMAC":       func() error { return wantVerify(r.host.VerifyMAC(mac, msg, msg)) },
			"MACResponse":     func() error { _, err := r.host.MACResponse(nil, mac, msg); return err },
			"EncryptResponse": func() error { _, err := r.host.EncryptResponse(nil, response, msg); return err },
			"TranslatePIN": func() error {
				_, err := r.host.TranslatePIN(nil, PINBlock{Format: f, PAN: pan, Block: msg[:f.BlockSize()]}, target)
				return wantVerify(err)
			},
		} {
			if err := f(); err != nil {
				t.Errorf("%s, %s: %v", b.name, name, err)
			}
			for _, s := range []*session{&r.term.s, &r.host.s} {
				if k := s.workingKey(maxKey); !bytes.Equal(k, make([]byte, maxKey)) {
					t.Errorf("%s: a working key is left after %s", b.name, name)
				}
			}
		}
	}
}

// wantVerify turns the refusal that is expected into success.
func wantVerify(err error) error {
	if err == ErrVerify {
		return nil
	}
	return fmt.Errorf("got %v, want ErrVerify", err)
}

func TestDataRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 5)
		size := 8
		if b.id.Scheme() == AES {
			size = 16
		}
		good := b.id.Scheme().DefaultData()
		for _, n := range []int{0, 1, size - 1, size + 1, 3*size - 1} {
			if out, err := r.term.EncryptData([]byte("x"), good, make([]byte, n)); !errors.Is(err, ErrLength) || string(out) != "x" {
				t.Errorf("%s: EncryptData of %d bytes = %X, %v, want ErrLength", b.name, n, out, err)
			}
			if _, err := r.host.DecryptData(nil, good, make([]byte, n)); !errors.Is(err, ErrLength) {
				t.Errorf("%s: DecryptData of %d bytes: %v, want ErrLength", b.name, n, err)
			}
		}
		for name, change := range map[string]func(*DataSpec){
			"direction 0":        func(s *DataSpec) { s.Direction = 0 },
			"direction 4":        func(s *DataSpec) { s.Direction = 4 },
			"response direction": func(s *DataSpec) { s.Direction = Response },
			"mode 0":             func(s *DataSpec) { s.Mode = 0 },
			"mode 3":             func(s *DataSpec) { s.Mode = 3 },
			"nothing":            func(s *DataSpec) { *s = DataSpec{} },
			"ECB with IV":        func(s *DataSpec) { s.Mode, s.IV = ECB, make([]byte, size) },
			"neither":            func(s *DataSpec) { s.Profile, s.Key = 0, 0 },
			"both kinds":         func(s *DataSpec) { s.Profile, s.Key = DataOneWay, KeyAES128 },
			"unknown profile":    func(s *DataSpec) { s.Profile = DataBareKey + 1 },
			"profile and key":    func(s *DataSpec) { s.Profile, s.Key = DataMask, KeyTDES2 },
			"unknown padding":    func(s *DataSpec) { s.Padding = PKCS7Padding + 1 },
			"HMAC working key":   func(s *DataSpec) { s.Key = KeyHMAC128 },
			"unknown key":        func(s *DataSpec) { s.Key = KeyHMAC256 + 1 },
		} {
			spec := good
			change(&spec)
			if out, err := r.host.DecryptData(nil, spec, make([]byte, size)); !errors.Is(err, ErrUnsupported) || out != nil {
				t.Errorf("%s, %s: DecryptData = %X, %v, want ErrUnsupported", b.name, name, out, err)
			}
			if _, err := r.term.EncryptData(nil, spec, make([]byte, size)); !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s, %s: EncryptData: %v, want ErrUnsupported", b.name, name, err)
			}
		}
		for _, n := range []int{0, size - 1, size + 1} {
			spec := good
			spec.IV = make([]byte, n)
			if _, err := r.host.DecryptData(nil, spec, make([]byte, size)); !errors.Is(err, ErrLength) {
				t.Errorf("%s: IV of %d bytes: %v, want ErrLength", b.name, n, err)
			}
		}
		request := good
		if _, err := r.host.EncryptResponse(nil, request, make([]byte, size)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: a response under the request key: %v", b.name, err)
		}
		if _, err := r.term.DecryptResponse(nil, request, make([]byte, size)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: a request read as a response: %v", b.name, err)
		}
	}
	b := testBases(t)[1]
	spec := DataSpec{Direction: Request, Key: KeyAES256, Mode: CBC}
	if _, err := testRoles(t, b, 1).host.DecryptData(nil, spec, make([]byte, 16)); !errors.Is(err, ErrStrength) {
		t.Errorf("AES-256 under AES-128: %v, want ErrStrength", err)
	}
}

func TestMACBothWays(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 1000)
		msg := []byte("0200 amount 12.34")
		full := b.id.Scheme().DefaultMAC()
		for length := 4; length <= full.Length; length++ {
			for _, d := range []Direction{0, Both} {
				spec := full
				spec.Length, spec.Direction = length, d
				sum, err := r.term.MAC([]byte("x"), spec, msg)
				if err != nil || len(sum) != 1+length || sum[0] != 'x' {
					t.Fatalf("%s %+v: MAC = %X, %v", b.name, spec, sum, err)
				}
				checkForgeries(t, b.name, sum[1:], func(m []byte) error { return r.host.VerifyMAC(spec, msg, m) })
				back, err := r.host.MACResponse(nil, spec, msg)
				if err != nil {
					t.Fatal(err)
				}
				checkForgeries(t, b.name, back, func(m []byte) error { return r.term.VerifyResponse(spec, msg, m) })
				shared := d == Both
				if bytes.Equal(back, sum[1:]) != shared {
					t.Errorf("%s %+v: request and response MACs equal: %v", b.name, spec, !shared)
				}
			}
		}
		explicit := full
		explicit.Direction = Request
		implied, err := r.term.MAC(nil, full, msg)
		if err != nil {
			t.Fatal(err)
		}
		if named, err := r.term.MAC(nil, explicit, msg); err != nil || !bytes.Equal(named, implied) {
			t.Errorf("%s: naming the direction changes the MAC: %v", b.name, err)
		}
		if _, err := r.host.MACResponse(nil, explicit, msg); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: the host made a request MAC: %v", b.name, err)
		}
	}
}

// checkForgeries wants good accepted, and every other MAC refused alike.
func checkForgeries(t *testing.T, name string, good []byte, verify func([]byte) error) {
	t.Helper()
	if err := verify(good); err != nil {
		t.Errorf("%s: the MAC itself: %v", name, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if err := verify(bad); err != ErrVerify {
			t.Errorf("%s: byte %d changed: %v, want ErrVerify itself", name, i, err)
		}
	}
	for _, bad := range [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), 0), make([]byte, len(good))} {
		if err := verify(bad); err != ErrVerify {
			t.Errorf("%s: %X: %v, want ErrVerify itself", name, bad, err)
		}
	}
}

func TestMACRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 5)
		good := b.id.Scheme().DefaultMAC()
		for name, c := range map[string]struct {
			change func(*MACSpec)
			want   error
		}{
			"length 0":     {func(s *MACSpec) { s.Length = 0 }, ErrLength},
			"length 3":     {func(s *MACSpec) { s.Length = 3 }, ErrLength},
			"length -1":    {func(s *MACSpec) { s.Length = -1 }, ErrLength},
			"too long":     {func(s *MACSpec) { s.Length++ }, ErrLength},
			"nothing":      {func(s *MACSpec) { *s = MACSpec{} }, ErrUnsupported},
			"algorithm 0":  {func(s *MACSpec) { s.Algorithm = 0 }, ErrUnsupported},
			"other family": {func(s *MACSpec) { s.Algorithm = MACRetail + MACCMAC - s.Algorithm }, ErrUnsupported},
			"padding":      {func(s *MACSpec) { s.Padding = 2 - s.Padding }, ErrUnsupported},
			"padding 4":    {func(s *MACSpec) { s.Padding = 4 }, ErrUnsupported},
			"key":          {func(s *MACSpec) { s.Key = KeyHMAC128 }, ErrUnsupported},
			"HMAC":         {func(s *MACSpec) { s.Algorithm, s.Padding = MACHMACSHA256, 0 }, ErrUnsupported},
			"direction":    {func(s *MACSpec) { s.Direction = 4 }, ErrUnsupported},
			"response":     {func(s *MACSpec) { s.Direction = Response }, ErrUnsupported},
		} {
			spec := good
			c.change(&spec)
			if got, err := r.term.MAC(nil, spec, []byte("x")); !errors.Is(err, c.want) || got != nil {
				t.Errorf("%s, %s: MAC = %X, %v, want %v", b.name, name, got, err, c.want)
			}
			if err := r.host.VerifyMAC(spec, []byte("x"), nil); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: VerifyMAC: %v, want %v", b.name, name, err, c.want)
			}
		}
	}
}

func TestTranslatePIN(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 33)
		p, pan := testPIN(t, "73912", "4111111111111111")
		in := formatOf(b.id.Scheme())
		block, err := r.term.EncryptPIN(nil, in, p, pan)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []pin.Format{pin.Format0, pin.Format4} {
			zone, err := zoneKey(f)
			if err != nil {
				t.Fatal(err)
			}
			target := PINTarget{Format: f, PAN: pan, Key: zone, Fill: [8]byte{9, 8, 7}}
			got, err := r.host.TranslatePIN([]byte("x"), PINBlock{Format: in, PAN: pan, Block: block}, target)
			if err != nil || got[0] != 'x' || len(got) != 1+f.BlockSize() {
				t.Fatalf("%s to %v: %X, %v", b.name, f, got, err)
			}
			want, err := typedInto(nil, target, p)
			if err != nil || !bytes.Equal(got[1:], want) {
				t.Errorf("%s to %v: %X, want %X (%v)", b.name, f, got[1:], want, err)
			}
		}
		if scratch := r.host.s.workingKey(maxKey); !bytes.Equal(scratch, make([]byte, maxKey)) {
			t.Errorf("%s: a working key is left", b.name)
		}
	}
}

func TestTranslatePINRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 33)
		p, pan := testPIN(t, "7391", "4111111111111111")
		f := formatOf(b.id.Scheme())
		block, err := r.term.EncryptPIN(nil, f, p, pan)
		if err != nil {
			t.Fatal(err)
		}
		zone, err := zoneKey(f)
		if err != nil {
			t.Fatal(err)
		}
		wrongKind, err := zoneKey(pin.Format0 + pin.Format4 - f)
		if err != nil {
			t.Fatal(err)
		}
		otherPAN := testPAN(t, "4111111111171113")
		for name, c := range map[string]struct {
			change func(*PINBlock, *PINTarget)
			want   error
		}{
			"PANs differ":        {func(in *PINBlock, _ *PINTarget) { in.PAN = otherPAN }, pin.ErrTranslation},
			"no PANs":            {func(in *PINBlock, out *PINTarget) { in.PAN, out.PAN = pin.PAN{}, pin.PAN{} }, pin.ErrTranslation},
			"to format 1":        {func(_ *PINBlock, out *PINTarget) { out.Format = pin.Format1 }, pin.ErrTranslation},
			"to format 2":        {func(_ *PINBlock, out *PINTarget) { out.Format = pin.Format2 }, pin.ErrTranslation},
			"from format 2":      {func(in *PINBlock, _ *PINTarget) { in.Format = pin.Format2 }, pin.ErrTranslation},
			"to no format":       {func(_ *PINBlock, out *PINTarget) { out.Format = 0 }, pin.ErrTranslation},
			"from other cipher":  {func(in *PINBlock, _ *PINTarget) { in.Format = pin.Format0 + pin.Format4 - f }, ErrUnsupported},
			"to other cipher":    {func(_ *PINBlock, out *PINTarget) { out.Format = pin.Format0 + pin.Format4 - f }, ErrUnsupported},
			"key of other kind":  {func(_ *PINBlock, out *PINTarget) { out.Key = wrongKind }, ErrUnsupported},
			"no key":             {func(_ *PINBlock, out *PINTarget) { out.Key = keys.Key{} }, ErrUnsupported},
			"data key":           {func(_ *PINBlock, out *PINTarget) { out.Key = withAttributes(t, zone, keys.UsageData, keys.ModeEncrypt) }, ErrUnsupported},
			"decryption key":     {func(_ *PINBlock, out *PINTarget) { out.Key = withAttributes(t, zone, keys.UsagePIN, keys.ModeDecrypt) }, ErrUnsupported},
			"empty block":        {func(in *PINBlock, _ *PINTarget) { in.Block = nil }, ErrLength},
			"short block":        {func(in *PINBlock, _ *PINTarget) { in.Block = block[1:] }, ErrLength},
			"long block":         {func(in *PINBlock, _ *PINTarget) { in.Block = append(bytes.Clone(block), 0) }, ErrLength},
			"changed block":      {func(in *PINBlock, _ *PINTarget) { in.Block = slices.Concat([]byte{block[0] ^ 4}, block[1:]) }, ErrVerify},
			"block of other PAN": {func(in *PINBlock, out *PINTarget) { in.PAN, out.PAN = otherPAN, otherPAN }, ErrVerify},
		} {
			in, out := PINBlock{Format: f, PAN: pan, Block: block}, PINTarget{Format: f, PAN: pan, Key: zone}
			c.change(&in, &out)
			got, err := r.host.TranslatePIN([]byte("x"), in, out)
			if !errors.Is(err, c.want) || string(got) != "x" {
				t.Errorf("%s, %s: %X, %v, want %v", b.name, name, got, err, c.want)
			}
			if c.want == ErrVerify && err != ErrVerify {
				t.Errorf("%s, %s: %v says more than ErrVerify", b.name, name, err)
			}
		}
	}
}

func withAttributes(t *testing.T, k keys.Key, u keys.Usage, m keys.Mode) keys.Key {
	t.Helper()
	a := k.Attributes()
	a.Usage, a.Mode = u, m
	out, err := keys.NewKey(a, k.Material().Expose())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEncryptPINRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 2)
		p, pan := testPIN(t, "1234", "4111111111111111")
		good := formatOf(b.id.Scheme())
		if got, err := r.term.EncryptPIN(nil, good, pin.PIN{}, pan); err == nil || got != nil {
			t.Errorf("%s: no PIN gives %X", b.name, got)
		}
		if got, err := r.term.EncryptPIN(nil, good, p, pin.PAN{}); err == nil || got != nil {
			t.Errorf("%s: no PAN gives %X", b.name, got)
		}
		if good == pin.Format4 {
			one, err := r.term.EncryptPIN(nil, good, p, pan)
			two, err2 := r.term.EncryptPIN(nil, good, p, pan)
			if err != nil || err2 != nil || bytes.Equal(one, two) {
				t.Errorf("%s: two blocks with the same fill", b.name)
			}
		}
	}
}

func TestKeysHaveAPurpose(t *testing.T) {
	t.Parallel()
	material := []byte("0123456789abcdef")
	key := func(a keys.Algorithm, u keys.Usage, m keys.Mode) keys.Key {
		k, err := keys.NewKey(keys.Attributes{Algorithm: a, Usage: u, Mode: m, Exportability: keys.Exportable}, append(material, "ABCDEFGH"...)[:a.KeyBytes()])
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name, k := range map[string]keys.Key{
		"no key":        {},
		"initial key":   key(keys.AES128, keys.UsageInitialKey, keys.ModeDerive),
		"PIN key":       key(keys.TDES2, keys.UsagePIN, keys.ModeBoth),
		"triple length": key(keys.TDES3, keys.UsageBDK, keys.ModeDerive),
	} {
		if b, err := NewBaseKey(k); !errors.Is(err, ErrUnsupported) || b != nil {
			t.Errorf("NewBaseKey of %s: %v, want ErrUnsupported", name, err)
		}
	}
	copy(material, "\xfe\x01\xfe\x01\xfe\x01\xfe\x01")
	if b, err := NewBaseKey(key(keys.TDES2, keys.UsageBDK, keys.ModeDerive)); !errors.Is(err, keys.ErrWeak) || b != nil {
		t.Errorf("NewBaseKey of a semi-weak key: %v", err)
	}
	if b, err := NewBaseKey(key(keys.AES128, keys.UsageBDK, keys.ModeDerive)); err != nil || b == nil {
		t.Errorf("NewBaseKey of an AES key with a semi-weak key of DES in it: %v", err)
	}
	clear(material)
	if b, err := NewBaseKey(key(keys.AES128, keys.UsageBDK, keys.ModeDerive)); !errors.Is(err, keys.ErrWeak) || b != nil {
		t.Errorf("NewBaseKey of zeros: %v", err)
	}
	copy(material, "0123456789abcdef")
	ids := testIDs(t)
	for name, c := range map[string]struct {
		id   KeyID
		k    keys.Key
		want error
	}{
		"no key":       {ids[AES], keys.Key{}, ErrUnsupported},
		"base key":     {ids[AES], key(keys.AES128, keys.UsageBDK, keys.ModeDerive), ErrUnsupported},
		"no id":        {KeyID{}, key(keys.AES128, keys.UsageInitialKey, keys.ModeDerive), ErrKSN},
		"other scheme": {ids[TDES], key(keys.AES128, keys.UsageInitialKey, keys.ModeDerive), ErrKSN},
	} {
		if ik, err := NewInitialKey(c.id, c.k); !errors.Is(err, c.want) || ik != nil {
			t.Errorf("NewInitialKey of %s: %v, want %v", name, err, c.want)
		}
	}
}

func TestBaseKeyRefuses(t *testing.T) {
	t.Parallel()
	bases := testBases(t)
	for _, b := range bases {
		for _, other := range bases {
			_, err := b.base.Begin(mustAt(t, other.id, 9))
			_, err2 := b.base.Derive(other.id)
			same := other.id.Scheme() == b.id.Scheme()
			if same != (err == nil) || same != (err2 == nil) || !same && (!errors.Is(err, ErrKSN) || !errors.Is(err2, ErrKSN)) {
				t.Errorf("%s with the KSN of %s: %v, %v", b.name, other.name, err, err2)
			}
		}
		if _, err := b.base.Begin(KSN{}); !errors.Is(err, ErrKSN) {
			t.Errorf("%s: Begin of no KSN: %v", b.name, err)
		}
		if _, err := b.base.Derive(KeyID{}); !errors.Is(err, ErrKSN) {
			t.Errorf("%s: Derive of no key id: %v", b.name, err)
		}
		b.base.Wipe()
		b.base.Wipe()
		if _, err := b.base.Begin(mustAt(t, b.id, 1)); err == nil {
			t.Errorf("%s: a wiped base key goes on", b.name)
		}
	}
}

func TestHostTransactionEnds(t *testing.T) {
	t.Parallel()
	tx := testRoles(t, testBases(t)[0], 3).host
	tx.End()
	tx.End()
	if got := tx.s.cell.Expose(); !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("End left a key")
	}
	mustPanic(t, "KSN", func() { tx.KSN() })
	mustPanic(t, "VerifyMAC", func() { _ = tx.VerifyMAC(TDES.DefaultMAC(), nil, nil) })
	mustPanic(t, "TranslatePIN", func() { _, _ = tx.TranslatePIN(nil, PINBlock{}, PINTarget{}) })
}

// TestBaseKeyConcurrent uses one base key from many sides at once. It says something under -race.
func TestBaseKeyConcurrent(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 20 {
					ksn := mustAt(t, b.id, uint32(1+g*1000+i))
					tx, err := b.base.Begin(ksn)
					if err != nil {
						if !errors.Is(err, ErrWiped) {
							t.Error(err)
						}
						return
					}
					sum, err := tx.MACResponse(nil, ksn.Scheme().DefaultMAC(), []byte(fmt.Sprint(g, i)))
					if err != nil || len(sum) == 0 {
						t.Error(err)
					}
					tx.End()
					if ik, err := b.base.Derive(b.id); err == nil {
						ik.Wipe()
					}
				}
			})
		}
		wg.Go(b.base.Wipe)
		wg.Wait()
	}
}
