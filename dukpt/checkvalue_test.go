package dukpt

import (
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/keys"
)

// stdKCV is the check value of a working key by the standard library's ciphers.
func stdKCV(t *testing.T, w WorkingKey, k []byte) string {
	t.Helper()
	var sum []byte
	switch {
	case w.isHMAC():
		h := stdhmac.New(sha256.New, k)
		sum = h.Sum(nil)[:3]
	case w.isAES():
		sum = mac.CMAC(nil, stdBlock(t, w, k), make([]byte, 16))[:5]
	default:
		sum = make([]byte, 8)
		stdBlock(t, w, k).Encrypt(sum, sum)
		sum = sum[:3]
	}
	return strings.ToUpper(hex.EncodeToString(sum))
}

// wantChecks lists the check values of one transaction from the usages of the standard, written down a second time.
func wantChecks(t *testing.T, b testBase, s *session) []string {
	t.Helper()
	defer s.wipeWorkingKey()
	var out []string
	add := func(w WorkingKey, k []byte, format string, args ...any) {
		out = append(out, fmt.Sprintf(format, args...)+" "+w.String()+" "+stdKCV(t, w, k))
	}
	if b.id.Scheme() == TDES {
		oneWay := func(mask tdesMask) []byte {
			k := s.variant(mask)
			tdesOneWay(k)
			return k[:]
		}
		add(KeyTDES2, s.variant(maskPIN)[:], "PIN")
		add(KeyTDES2, s.variant(maskMACRequest)[:], "MAC request")
		add(KeyTDES2, s.variant(maskMACResponse)[:], "MAC response")
		add(KeyTDES2, oneWay(maskDataRequest), "data request one-way")
		add(KeyTDES2, oneWay(maskDataResponse), "data response one-way")
		add(KeyTDES2, s.variant(maskDataRequest)[:], "data request mask")
		add(KeyTDES2, s.variant(maskDataResponse)[:], "data response mask")
		add(KeyTDES2, s.key(), "data bare-key")
		return out
	}
	for _, u := range []struct {
		name string
		code aesUsage
	}{
		{"PIN", 0x1000}, {"MAC request", 0x2000}, {"MAC response", 0x2001}, {"MAC both", 0x2002},
		{"data request", 0x3000}, {"data response", 0x3001}, {"data both", 0x3002}, {"key encryption", 0x0002},
	} {
		types := slices.Concat(tdesKeys, aesKeys)
		if strings.HasPrefix(u.name, "MAC") {
			types = slices.Concat(types, hmacKeys)
		}
		for _, w := range types {
			k, err := s.derive(u.code, w)
			if errors.Is(err, ErrStrength) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			add(w, k, "%s", u.name)
		}
	}
	return out
}

// label is what wantChecks writes.
func (c WorkingKeyCheck) label() string {
	words := []string{c.Use.String()}
	if c.Direction != 0 {
		words = append(words, c.Direction.String())
	}
	if c.Profile != 0 {
		words = append(words, c.Profile.String())
	}
	return strings.Join(append(words, c.Key.String(), c.KCV.String()), " ")
}

func TestCheckValues(t *testing.T) {
	t.Parallel()
	// Eight usages of each type for ciphers, three of each for HMAC.
	rows := map[string]int{"2TDEA": 8, "AES-128": 3*8 + 3, "AES-192": 4*8 + 2*3, "AES-256": 5*8 + 3*3}
	for _, b := range testBases(t) {
		host := testRoles(t, b, 99).host
		want := wantChecks(t, b, &host.s)
		checks, err := b.base.CheckValues(host.KSN())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range checks {
			got = append(got, c.label())
		}
		if !slices.Equal(got, want) || len(got) != rows[b.name] {
			t.Errorf("%s: %d rows of %d\ngot  %q\nwant %q", b.name, len(got), rows[b.name], got, want)
		}
	}
}

func TestCheckValuesRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		ksn, err := b.id.AtOrdinal(1)
		if err != nil {
			t.Fatal(err)
		}
		other := "123456789012345600000001"
		if b.id.Scheme() == AES {
			other = "FFFF9876543210E00001"
		}
		foreign, err := ParseKSNHex(other)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []KSN{{}, foreign} {
			if got, err := b.base.CheckValues(k); !errors.Is(err, ErrKSN) || got != nil {
				t.Errorf("%s: %v: %v, %v", b.name, k, got, err)
			}
		}
		b.base.Wipe()
		if got, err := b.base.CheckValues(ksn); err == nil || got != nil {
			t.Errorf("%s: a wiped base key gives %v", b.name, got)
		}
	}
}

// TestCheckValueLeavesNothing: the working key is gone when its check value is there, and a use that is none has no key.
func TestCheckValueLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		s := &testRoles(t, b, 1).host.s
		for _, row := range checksOf(b.id.Scheme()) {
			_, err := s.checkValue(row)
			if err != nil && !errors.Is(err, ErrStrength) {
				t.Errorf("%s, %v: %v", b.name, row, err)
			}
			if slices.ContainsFunc(s.workingKey(maxKey), func(x byte) bool { return x != 0 }) {
				t.Fatalf("%s, %v: the working key is still there", b.name, row)
			}
		}
		for _, use := range []KeyUse{0, UseKeyEncryption + 1} {
			if kcv, err := s.checkValue(WorkingKeyCheck{Use: use, Key: KeyAES128}); !errors.Is(err, ErrUnsupported) || !kcv.IsZero() {
				t.Errorf("%s: use %v: %v, %v", b.name, use, kcv, err)
			}
		}
	}
}

// checkKCV holds the check value of a published working key against the one computed for its usage.
func checkKCV(c *check, s *session, row WorkingKeyCheck, published []byte) {
	got, err := s.checkValue(row)
	c.ok(err)
	k, err := keys.NewKey(row.attributes(), published)
	c.ok(err)
	c.true(fmt.Sprintf("check value %v of %v %v", got, row.Use, row.Key), err == nil && got.Equal(k.KCV()))
}
