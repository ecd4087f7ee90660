package keyring

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// vectorRing is a ring that vectors put their keys into. A key has one name whatever it is for, so each has a ring of its own kind.
type vectorRing struct {
	*Ring
	made int
}

func newVectorRing(t *testing.T) *vectorRing {
	t.Helper()
	r, err := CreateWith(filepath.Join(t.TempDir(), "ring"), secret.From([]byte("a test passphrase")), Options{Seal: seal.Params{Memory: 64, Time: 1, Parallelism: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return &vectorRing{Ring: r}
}

// open puts a key in, if it is not there yet, and opens it.
func (r *vectorRing) open(t *testing.T, a keys.Attributes, material []byte) (engine.FixedOps, error) {
	k, err := keys.NewKey(a, material)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	for _, info := range r.List() {
		if info.Fingerprint == k.Fingerprint(r.fingerprints()) {
			return r.Engine().Open(t.Context(), info.ID)
		}
	}
	r.made++
	ref, err := keyset.ParseKeyRef(fmt.Sprintf("alias/vector-%d", r.made))
	if err != nil {
		return nil, err
	}
	if _, err := r.Import(ref, k, keyset.Test); err != nil {
		return nil, err
	}
	return r.Engine().Open(t.Context(), ref)
}

// whole fills a message up to whole blocks by a padding of ISO 9797-1, as a caller does.
func whole(msg []byte, padding, block int) []byte {
	out := bytes.Clone(msg)
	if padding == 2 {
		out = append(out, 0x80)
	}
	for len(out)%block != 0 || len(out) == 0 {
		out = append(out, 0)
	}
	if padding == 3 {
		length := make([]byte, block)
		binary.BigEndian.PutUint64(length[block-8:], uint64(len(msg))*8)
		out = append(length, out...)
	}
	return out
}

func macHandlers(t *testing.T) map[string]testvec.Handler {
	handler := func(usage keys.Usage, algorithm dukpt.MACAlgorithm, sizes map[int]keys.Algorithm) testvec.Handler {
		r := newVectorRing(t)
		return func(v testvec.Vector) (int, error) {
			key := v.Hex("key")
			a, ok := sizes[len(key)]
			if !ok { // of a length that keys here do not have
				a = keys.HMAC128
			}
			msg := []byte(nil)
			if v.Has("data_ascii") {
				msg = []byte(v.String("data_ascii"))
			} else {
				msg = v.Hex("data")
			}
			if v.Has("padding") {
				block := 8
				if a.IsAES() {
					block = 16
				}
				msg = whole(msg, v.Int("padding"), block)
			}
			want := v.Hex("mac")
			ops, err := r.open(t, keys.Attributes{Algorithm: a, Usage: usage, Mode: keys.ModeGenVerify, Exportability: keys.NonExportable}, key)
			if !ok {
				if !errors.Is(err, keys.ErrLength) {
					return 0, fmt.Errorf("a key of %d bytes: %v", len(key), err)
				}
				return 1, nil
			}
			if err != nil {
				return 0, err
			}
			defer ops.End()
			s := engine.FixedMAC{Algorithm: algorithm, Length: len(want)}
			got, err := ops.MAC(nil, s, msg)
			if err != nil || !bytes.Equal(got, want) {
				return 0, fmt.Errorf("got %X, %v", got, err)
			}
			return 2, ops.VerifyMAC(s, msg, want)
		}
	}
	tdes, aes := map[int]keys.Algorithm{16: keys.TDES2, 24: keys.TDES3}, map[int]keys.Algorithm{16: keys.AES128, 24: keys.AES192, 32: keys.AES256}
	return map[string]testvec.Handler{
		"aes_cmac": handler(keys.UsageMACCMAC, dukpt.MACCMAC, aes), "tdes_cmac": handler(keys.UsageMACCMAC, dukpt.MACCMAC, tdes),
		"retail_mac_alg3":   handler(keys.UsageMACRetail, dukpt.MACRetail, tdes),
		"cbc_mac_alg1_tdes": handler(keys.UsageMACCBC, dukpt.MACCBC, tdes), "cbc_mac_alg1_aes": handler(keys.UsageMACCBC, dukpt.MACCBC, aes),
		"hmac_sha256": handler(keys.UsageHMAC, dukpt.MACHMACSHA256, map[int]keys.Algorithm{16: keys.HMAC128, 24: keys.HMAC192, 32: keys.HMAC256}),
	}
}

// macElsewhere are features that no key of the ring has: see internal/mac.
var macElsewhere = []string{"retail_mac_alg3_two_keys", "padding_ambiguity"}

// TestFixedVectors computes the shared vectors under keys of the ring.
func TestFixedVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "mac", macHandlers(t), macElsewhere...)
	r := newVectorRing(t)
	testvec.Run(t, "pinblock", map[string]testvec.Handler{"translate": func(v testvec.Vector) (int, error) { return r.translates(t, v) }},
		"iso0", "iso1_decode", "iso2", "iso3_decode", "iso4_pin_field", "iso4_pan_field", "iso4_encrypted", "reject", "reject_encode")
}

// translates moves a PIN as a vector says, or is refused where a host may not.
func (r *vectorRing) translates(t *testing.T, v testvec.Vector) (int, error) {
	formats := map[string]pin.Format{"ISO0": pin.Format0, "ISO1": pin.Format1, "ISO4": pin.Format4}
	attributes := keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeBoth, Exportability: keys.NonExportable}
	in, err := r.open(t, attributes, v.Hex("in_key"))
	if err != nil {
		return 0, err
	}
	defer in.End()
	to := formats[v.String("out_format")]
	if to == pin.Format4 {
		attributes.Algorithm = keys.AES128
	}
	target, err := r.open(t, attributes, v.Hex("out_key"))
	if err != nil {
		return 0, err
	}
	defer target.End()
	pan, err := pin.ParsePAN(v.String("pan"))
	if err != nil {
		return 0, err
	}
	out := engine.PINOut{Format: to, PAN: pan, Key: target.Info().ID}
	if v.Has("out_random") {
		copy(out.Fill[:], v.Hex("out_random"))
	}
	got, err := in.TranslatePIN(nil, engine.PINIn{Format: formats[v.String("in_format")], PAN: pan, Block: v.Hex("in_block")}, out)
	if v.Has("policy") {
		if !errors.Is(err, pin.ErrTranslation) {
			return 0, fmt.Errorf("got %X, %v", got, err)
		}
		return 1, nil
	}
	if err != nil || !bytes.Equal(got, v.Hex("out_block")) {
		return 0, fmt.Errorf("got %X, %v; want %X", got, err, v.Hex("out_block"))
	}
	return 1, nil
}

// TestFixedVectorsFlipped changes one digit of what is expected.
func TestFixedVectorsFlipped(t *testing.T) {
	t.Parallel()
	handlers := macHandlers(t)
	expected := map[string][]string{}
	for feature := range handlers {
		expected[feature] = []string{"mac"}
	}
	delete(expected, "hmac_sha256") // some have keys that are refused, whatever is expected
	delete(handlers, "hmac_sha256")
	testvec.Flip(t, "mac", handlers, expected)
}
