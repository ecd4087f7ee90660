package keyblock

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
)

func kbpkOf(b []byte) (keys.Key, error) {
	a := keys.Attributes{Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable}
	switch len(b) {
	case 16:
		a.Algorithm = keys.AES128
	case 24:
		a.Algorithm = keys.AES192
	default:
		a.Algorithm = keys.AES256
	}
	return keys.NewKey(a, b)
}

func protectorOf(b []byte) (*Protector, error) {
	k, err := kbpkOf(b)
	if err != nil {
		return nil, err
	}
	return NewProtector(k)
}

// comparer counts comparisons and keeps the first difference.
type comparer struct {
	n   int
	err error
}

func (c *comparer) equal(what string, got, want any) {
	c.n++
	if c.err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
		c.err = fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func unwrapD(v testvec.Vector) (int, error) {
	p, err := protectorOf(v.Hex("kbpk"))
	if err != nil {
		return 0, err
	}
	got, err := p.Unwrap(v.String("block"))
	if err != nil {
		return 0, err
	}
	defer got.Wipe()
	var c comparer
	c.equal("key", strings.ToUpper(hex.EncodeToString(got.Material().Expose())), v.String("key"))
	c.equal("version", string(got.Version), v.String("version"))
	c.equal("usage", got.Usage, v.String("usage"))
	c.equal("algorithm", string(got.Algorithm), v.String("algorithm"))
	c.equal("mode", got.Mode, v.String("mode"))
	c.equal("key version", got.KeyVersion, v.String("key_version"))
	c.equal("exportability", got.Exportability, v.String("exportability"))
	var want []OptionalBlock
	for _, o := range v.Objects("optional_blocks") {
		want = append(want, OptionalBlock{ID: o["id"], Data: o["data"]})
	}
	c.equal("optional blocks", got.Optional, want)
	for _, name := range []string{"kcv_aes_cmac", "kcv_tdes_zeros"} {
		if !v.Has(name) {
			continue
		}
		k, err := got.Key()
		if err != nil {
			return c.n, err
		}
		c.equal(name, k.KCV(), v.String(name))
	}
	// The other entry point reads the same header.
	h, err := Inspect(v.String("block"))
	if err != nil {
		return c.n, err
	}
	c.equal("inspected header", fmt.Sprint(h), fmt.Sprint(got.Header))
	return c.n, c.err
}

func reject(v testvec.Vector) (int, error) {
	p, err := protectorOf(v.Hex("kbpk"))
	if err != nil {
		return 0, err
	}
	block := v.String("block")
	_, err = p.Unwrap(block)
	want := ErrBlock
	if len(block) >= headerSize && block[0] != 'D' {
		if _, _, perr := parseHeader(block); perr == nil {
			want = ErrVersion
		}
	}
	if !errors.Is(err, want) {
		return 1, fmt.Errorf("%s: got %v, want %v", v.String("reason"), err, want)
	}
	return 1, nil
}

// checkValue computes the check values of the vectors: the two of ours by way of a key, the others from their definition.
func checkValue(v testvec.Vector) (int, error) {
	raw := v.Hex("key")
	cut := len(v.Hex("kcv"))
	var got []byte
	own := func(a keys.Algorithm, u keys.Usage) ([]byte, error) {
		k, err := keys.NewKey(keys.Attributes{Algorithm: a, Usage: u, Mode: keys.ModeNone, Exportability: keys.NonExportable}, raw)
		if err != nil {
			return nil, err
		}
		return hex.DecodeString(k.KCV().String())
	}
	var err error
	switch method := v.String("method"); method {
	case "hmac_sha256_empty":
		got, err = own(keys.HMAC128, keys.UsageHMAC)
	case "tdes_ecb_zeros":
		got, err = own(keys.TDES2, keys.UsageData)
	case "aes_cmac_zeros":
		if len(raw) == 32 {
			got, err = own(keys.AES256, keys.UsageData)
		} else {
			got, err = own(keys.AES128, keys.UsageData)
		}
	case "aes_cmac_empty", "aes_cmac_ones", "aes_ecb_zeros":
		b, cerr := aes.NewCipher(raw)
		if cerr != nil {
			return 0, cerr
		}
		switch method {
		case "aes_cmac_empty":
			got = mac.CMAC(nil, b, nil)
		case "aes_cmac_ones":
			got = mac.CMAC(nil, b, bytes.Repeat([]byte{0xff}, 16))
		default:
			got = make([]byte, 16)
			b.Encrypt(got, got)
		}
		got = got[:cut]
	default:
		return 0, fmt.Errorf("unknown method %q", method)
	}
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(got, v.Hex("kcv")) {
		return 1, fmt.Errorf("got %X, want %s", got, v.String("kcv"))
	}
	return 1, nil
}

var handlers = map[string]testvec.Handler{"unwrap_D": unwrapD, "reject": reject, "kcv": checkValue}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "tr31", handlers, "unwrap_A", "unwrap_B", "unwrap_C", "components")
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "tr31", handlers, map[string][]string{
		"unwrap_D": {"key", "version", "usage", "algorithm", "mode", "key_version", "exportability", "kcv_aes_cmac", "kcv_tdes_zeros"},
		"kcv":      {"kcv"},
	})
}
