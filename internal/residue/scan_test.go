package residue_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// TestScan hides keys in every form at odd places and demands all of them, and nothing else.
func TestScan(t *testing.T) {
	t.Parallel()
	key := must(hex.DecodeString("0123456789ABCDEFFEDCBA9876543210"))
	other := must(hex.DecodeString("0123456789ABCDEE8EDCBA9876543211"))
	set := newNeedles()
	set.addKey(workingKey, key)
	set.addDES(key)
	set.addPlanes(key)
	set.addPairs(key)
	swapped := bytes.Clone(key[:8])
	binary.LittleEndian.PutUint64(swapped, binary.BigEndian.Uint64(swapped))
	halves := bytes.Clone(key[:8])
	binary.LittleEndian.PutUint32(halves, binary.BigEndian.Uint32(halves))
	binary.LittleEndian.PutUint32(halves[4:], binary.BigEndian.Uint32(halves[4:]))
	for _, c := range []struct {
		name  string
		bytes []byte
		kind  kind
		want  int
	}{
		{"nothing", make([]byte, 4096), workingKey, 0},
		{"another key", other[:8], workingKey, 0},
		{"both halves", key, workingKey, 2},
		{"last half", key[8:], workingKey, 1},
		{"seven bytes", key[9:], workingKey, 0},
		{"one word, big-endian", swapped, workingKey, 1},
		{"two words, big-endian", halves, workingKey, 1},
		{"bit-sliced in lane 5", sliced(binary.BigEndian.Uint64(key), 1<<5), slicedKey, 1},
		{"bit-sliced in every lane", sliced(binary.BigEndian.Uint64(key[8:]), ^uint64(0)), slicedKey, 1},
		{"another key, bit-sliced", sliced(binary.BigEndian.Uint64(other[8:]), 1), slicedKey, 0},
		{"for a pair of blocks", paired(binary.BigEndian.Uint64(key), 0), pairedKey, 2},
		{"for a pair of blocks, masked", paired(binary.BigEndian.Uint64(key[8:]), initialMask), pairedKey, 2},
		{"another key, for a pair of blocks", paired(binary.BigEndian.Uint64(other[8:]), 0), pairedKey, 0},
	} {
		for at := range 9 {
			if c.kind == slicedKey && at%8 != 0 {
				continue // words stand at whole words
			}
			memory := append(bytes.Repeat([]byte{0xa7}, at), c.bytes...)
			memory = append(memory, 0x5b, 0, 0, 0, 0, 0, 0)
			var found [kinds]int
			set.scan(memory, &found)
			set.scanPlanes(memory, &found)
			if found[c.kind] != c.want {
				t.Errorf("%s at %d: found %d, want %d", c.name, at, found[c.kind], c.want)
			}
		}
	}
}

// sliced lays a DES key out as a bit-sliced engine does.
func sliced(key, lanes uint64) (out []byte) {
	cd := permutedChoice(key)
	for i := range scheduleWords {
		bit := i%28 + i/56*28
		out = binary.LittleEndian.AppendUint64(out, -(cd>>bit&1)&lanes)
	}
	return out
}

// paired lays a DES key out as the engine for two blocks does, as far as the scan looks.
func paired(key, mask uint64) (out []byte) {
	for _, rotated := range []int{1, 2, 4, 6, 8, 10, 12, 14, 15, 17, 19, 21, 23, 25, 27, 28} {
		out = binary.LittleEndian.AppendUint64(out, pairWord(key, key^mask, rotated))
		out = binary.LittleEndian.AppendUint64(out, 0x3333333333333333)
	}
	return out
}

// TestOracle holds the keys that are looked for to what the package makes of them: keys that no process ever had would not
// be found in any.
func TestOracle(t *testing.T) {
	t.Parallel()
	const n = 40
	base := must(hex.DecodeString("FEDCBA9876543210F1F1F1F1F1F1F1F1"))
	for _, r := range roles {
		known := make(map[string]bool)
		see := func(_ kind, key []byte) { known[string(key)] = true }
		id := must(dukpt.ParseKeyID(r.id))
		name := must(hex.DecodeString(r.id))
		if r.a.IsTDES() {
			tdesKeys(base, [10]byte(name), n, see)
		} else {
			aesKeys(base, [8]byte(name), n, see)
		}
		host := must(dukpt.NewBaseKey(must(keys.NewKey(keys.Attributes{
			Algorithm: r.a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
		}, base))))
		for i := range uint32(n) {
			tx := must(host.Begin(must(id.AtOrdinal(i + 1))))
			for _, d := range []dukpt.Direction{dukpt.Request, dukpt.Response} {
				if !knows(known, r, encrypted(tx, id.Scheme(), d)) {
					t.Errorf("%s: the data key of transaction %d, %v, is not among those looked for", r.name, i+1, d)
				}
			}
			tx.End()
		}
	}
}

// encrypted returns a block of zeros under the data key of a direction.
func encrypted(tx *dukpt.HostTransaction, s dukpt.Scheme, d dukpt.Direction) []byte {
	spec := s.DefaultData()
	spec.Direction, spec.Mode = d, dukpt.ECB
	size := 8
	if s == dukpt.AES {
		size = 16
	}
	if d == dukpt.Response {
		return must(tx.EncryptResponse(nil, spec, make([]byte, size)))
	}
	return must(tx.DecryptData(nil, spec, make([]byte, size)))
}

// knows reports whether one of the keys gives the block, whichever way.
func knows(known map[string]bool, r role, block []byte) bool {
	zero, out := make([]byte, len(block)), make([]byte, len(block))
	for key := range known {
		var c blockCipher = tripled([]byte(key))
		if r.a.IsAES() {
			c = must(aes.NewCipher([]byte(key)))
		}
		if c.Encrypt(out, zero); bytes.Equal(out, block) {
			return true
		}
		if c.Encrypt(out, block); bytes.Equal(out, zero) {
			return true
		}
	}
	return false
}

// TestBlockKeys opens key blocks under the keys that are looked for.
func TestBlockKeys(t *testing.T) {
	t.Parallel()
	kbpk := must(hex.DecodeString("FEDCBA9876543210F1F1F1F1F1F1F1F1"))
	key := must(hex.DecodeString("0123456789ABCDEF8EDCBA9876543211"))
	k := must(keys.NewKey(holdings[0].Attributes, key))
	for _, c := range []struct {
		a     keys.Algorithm
		block cipher.Block
	}{{keys.AES128, must(aes.NewCipher(blockKeyAES(kbpk, 0)))}, {keys.TDES2, tripled(blockKeyTDES(kbpk, 0))}} {
		block := must(must(protect(c.a, (*[16]byte)(bytes.Clone(kbpk)))).Wrap(k))
		body := must(hex.DecodeString(block[16:]))
		size := len(body) - c.block.BlockSize()
		cipher.NewCBCDecrypter(c.block, body[size:]).CryptBlocks(body, body[:size])
		if !bytes.HasPrefix(body, append([]byte{0, 128}, key...)) {
			t.Errorf("%v: the key block holds %X", c.a, body[:size])
		}
	}
}
