package keyblock

import (
	"bytes"
	"crypto/aes"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
)

// protectorOf returns the protector under b for blocks of a version: of AES for D, of TDES for the others.
func protectorOf(version byte, b []byte) (*Protector, error) {
	a := keys.Attributes{Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable}
	candidates := []keys.Algorithm{keys.TDES2, keys.TDES3}
	if version == 'D' {
		candidates = []keys.Algorithm{keys.AES128, keys.AES192, keys.AES256}
	}
	for _, candidate := range candidates {
		if candidate.KeyBytes() == len(b) {
			a.Algorithm = candidate
		}
	}
	k, err := keys.NewKey(a, b)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
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

func unwrap(v testvec.Vector) (int, error) {
	block := v.String("block")
	p, err := protectorOf(block[0], v.Hex("kbpk"))
	if err != nil {
		return 0, err
	}
	got, err := p.Unwrap(block)
	if err != nil {
		return 0, err
	}
	defer got.Wipe()
	if w := got.fixed(); len(w) > 0 {
		return 0, fmt.Errorf("a published header has the warnings %v", w)
	}
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
		if v.Has(name) {
			c.equal(name, got.KCV(), v.String(name))
		}
	}
	// The other entry points read the same.
	h, err := Inspect(block)
	if err != nil {
		return c.n, err
	}
	c.equal("inspected header", fmt.Sprint(h), fmt.Sprint(got.Header))
	if len(got.Warnings()) > 0 || got.Exportability == keys.NonExportable {
		return c.n, c.err
	}
	again, err := p.Rewrap(got)
	if err != nil {
		return c.n, err
	}
	back, err := p.Unwrap(again)
	if err != nil {
		return c.n, err
	}
	defer back.Wipe()
	c.equal("key in a new block", back.Material().Equal(got.Material()), true)
	c.equal("header of a new block", again[5:16], block[5:16])
	return c.n, c.err
}

// reject gives a bad block to a protector under the key of the vector, of TDES where the block is of a version for it.
func reject(v testvec.Vector) (int, error) {
	block, kbpk := v.String("block"), v.Hex("kbpk")
	version := byte('D')
	if block != "" && len(kbpk) < 32 {
		version = block[0]
	}
	p, err := protectorOf(version, kbpk)
	if err != nil {
		return 0, err
	}
	if c, err := p.Unwrap(block); !errors.Is(err, ErrBlock) || !c.Material().IsZero() {
		return 1, fmt.Errorf("%s: got %v, want %v", v.String("reason"), err, ErrBlock)
	}
	return 1, nil
}

// components puts a key together, as two custodians or more do, and checks its check value.
func components(v testvec.Vector) (int, error) {
	sum := make([]byte, 16)
	for _, part := range v.Strings("components") {
		raw, err := hex.DecodeString(part)
		if err != nil {
			return 0, err
		}
		subtle.XORBytes(sum, sum, raw)
	}
	var c comparer
	c.equal("key", strings.ToUpper(hex.EncodeToString(sum)), v.String("key"))
	kcv, err := checkValue('T', secret.From(sum))
	if err != nil {
		return c.n, err
	}
	c.equal("check value", kcv, v.String("kcv_tdes"))
	return c.n, c.err
}

// checkValues computes the check values of the vectors: the two of ours by way of a key, the others from their definition.
func checkValues(v testvec.Vector) (int, error) {
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

var handlers = map[string]testvec.Handler{
	"unwrap_A": unwrap, "unwrap_B": unwrap, "unwrap_C": unwrap, "unwrap_D": unwrap,
	"reject": reject, "kcv": checkValues, "components": components,
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "tr31", handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	of := []string{"key", "version", "usage", "algorithm", "mode", "key_version", "exportability", "kcv_aes_cmac", "kcv_tdes_zeros"}
	testvec.Flip(t, "tr31", handlers, map[string][]string{
		"unwrap_A": of, "unwrap_B": of, "unwrap_C": of, "unwrap_D": of, "kcv": {"kcv"}, "components": {"key", "kcv_tdes"},
	})
}
