package keyblock

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// hostile is a block that nobody should accept, and the error that refuses it.
type hostile struct {
	name, block string
	want        error
}

// samples are good blocks: of each version, from vectors of the standard or made here, with and without optional blocks.
func samples(t *testing.T) map[string]sample {
	t.Helper()
	aes, tdes := testProtector(t, 32), tdesProtector(t, 16)
	wrap := func(p *Protector, a keys.Attributes, optional ...OptionalBlock) string {
		k, err := keys.GenerateKey(a)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Wipe()
		block, err := p.Wrap(k, optional...)
		if err != nil {
			t.Fatal(err)
		}
		return block
	}
	old := func(header string) string {
		block, _ := authenticated(t, tdes, header, append([]byte{0, 128}, "sixteen secrets!padding"[:22]...))
		return block
	}
	return map[string]sample{
		"A":                 {old("A0000P0TE00E0000"), tdes},
		"A with 2":          {old("A0000P0TE12E0200KS1400604B120F929280PB04"), tdes},
		"B":                 {wrap(tdes, attributes(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt)), tdes},
		"B with 1":          {wrap(tdes, attributes(keys.TDES2, keys.UsageInitialKey, keys.ModeDerive), OptionalBlock{OptionalKS, "FFFF9876543210E00000"}), tdes},
		"C":                 {old("C0000K0TN00N0000"), tdes},
		"C with 1":          {old("C0000B0TX12S0100KS1800604B120F9292800000"), tdes},
		"D":                 {wrap(aes, attributes(keys.AES128, keys.UsagePIN, keys.ModeEncrypt)), aes},
		"D with 2":          {wrap(aes, attributes(keys.AES128, keys.UsageInitialKey, keys.ModeDerive), OptionalBlock{OptionalIK, "1234567890123456"}), aes},
		"D with a long one": {wrap(aes, attributes(keys.AES128, keys.UsageData, keys.ModeBoth), OptionalBlock{OptionalLB, strings.Repeat("x", 300)}), aes},
	}
}

type sample struct {
	block string
	p     *Protector
}

// mutations makes hostile blocks out of a good one.
func mutations(block string) (all []hostile) {
	add := func(name, text string, want error) {
		if text != block {
			all = append(all, hostile{name, text, want})
		}
	}
	// Peers fail here: one panics below 16 characters.
	for n := range len(block) {
		if n < 80 || n > len(block)-40 {
			add(fmt.Sprintf("cut to %d", n), block[:n], ErrBlock)
			if n >= 5 { // with a length that agrees
				add(fmt.Sprintf("cut to %d and said so", n), block[:1]+fmt.Sprintf("%04d", n)+block[5:n], ErrBlock)
			}
		}
	}
	for _, behind := range []string{" ", "\n", "\r\n", "\x00", "0", "00", "=", block[len(block)-2:], block} {
		add(fmt.Sprintf("%.4q behind", behind), block+behind, ErrBlock)
		add(fmt.Sprintf("%.4q in front", behind), behind+block, ErrBlock)
		if long := block + behind; len(long) <= maxBlock {
			add(fmt.Sprintf("%.4q behind and said so", behind), long[:1]+fmt.Sprintf("%04d", len(long))+long[5:], ErrBlock)
		}
	}
	for _, length := range []int{0, 1, 15, 16, len(block) - 16, len(block) - 2, len(block) - 1, len(block) + 1, len(block) + 2, len(block) + 16, 9999} {
		add(fmt.Sprintf("length %d", length), block[:1]+fmt.Sprintf("%04d", length)+block[5:], ErrBlock)
	}
	for _, length := range []string{"    ", "-001", "+112", "0x70", fmt.Sprintf("%04X", len(block)) + "", "12a4", "١٢٣٤"[:4], "1e02", "\x00\x00\x00\x00"} {
		if length != block[1:5] {
			add(fmt.Sprintf("length %q", length), block[:1]+length+block[5:], ErrBlock)
		}
	}
	for _, count := range []string{"01", "02", "03", "09", "10", "50", "98", "99", "0A", "FF", " 1", "+1", "-1", "1 ", "0x", "\x00\x01", "é"} {
		if count != block[12:14] {
			add(fmt.Sprintf("%q optional blocks", count), block[:12]+count+block[14:], ErrBlock)
		}
	}
	for i, values := range map[int]string{
		5: "BCDEIKMPSVbp 0~\x00\xff", 6: "0123456789 ~", 7: "ADEHRSTat ~\x00", 8: "BCDEGNSTVXYb ~", 9: "0123c ~", 10: "01239 ~", 11: "ENSens ~", 14: "0129AZ ~", 15: "0129AZ ~",
	} {
		for _, c := range []byte(values) {
			add(fmt.Sprintf("character %d is %q", i, c), block[:i]+string([]byte{c})+block[i+1:], ErrBlock)
		}
	}
	for i := len(block) - 32; i < len(block); i++ {
		c := byte('0')
		if block[i] == '0' {
			c = 'F'
		}
		add(fmt.Sprintf("digit %d from the end flipped", len(block)-i), block[:i]+string([]byte{c})+block[i+1:], ErrBlock)
	}
	add("lower case", strings.ToLower(block), ErrBlock)
	add("lower-case body", block[:len(block)-32]+strings.ToLower(block[len(block)-32:]), ErrBlock)
	add("not ASCII", block[:20]+"é"+block[22:], ErrBlock)
	add("full-width digits", block[:len(block)-3]+"０", ErrBlock)
	add("halves swapped", block[:16]+block[len(block)-16:]+block[16:len(block)-16], ErrBlock)
	add("MAC of zeros", block[:len(block)-8]+"00000000", ErrBlock)
	add("twice the ciphertext digit", block[:40]+block[40:41]+block[40:len(block)-1], ErrBlock)
	return all
}

// TestHostile holds every mutation of every sample, and blocks that verify but lie, to the error that refuses them. None gives a
// key, and all of ErrBlock look alike.
func TestHostile(t *testing.T) {
	t.Parallel()
	tried := make(map[error]int)
	refuse := func(p *Protector, h hostile) {
		t.Helper()
		c, err := p.Unwrap(h.block)
		if err != h.want || !c.Material().IsZero() || c.Version != 0 { // the very error: nothing is wrapped around it
			t.Errorf("%s: %.60q: got %v, want %v", h.name, h.block, err, h.want)
		}
		tried[h.want]++
		_, _ = Inspect(h.block) // without a panic
	}
	for name, s := range samples(t) {
		if _, err := s.p.Unwrap(s.block); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, h := range mutations(s.block) {
			refuse(s.p, hostile{name + ": " + h.name, h.block, h.want})
		}
		for _, v := range "ABCDEZ012abcd \x00~" {
			want := ErrBlock
			if s.p.tdes == (v == 'D') && strings.ContainsRune("ABCD", v) {
				want = ErrVersion
			}
			if string(v) != s.block[:1] {
				// Of another version the header may already be wrong; then it is the header.
				if _, _, err := parseHeader(string(v) + s.block[1:]); err != nil {
					want = ErrBlock
				}
				refuse(s.p, hostile{fmt.Sprintf("%s: version %q", name, v), string(v) + s.block[1:], want})
			}
		}
		for other, p := range map[string]*Protector{
			"AES-128": testProtector(t, 16), "AES-192": testProtector(t, 24), "AES-256": testProtector(t, 32), "2TDEA": tdesProtector(t, 16), "3TDEA": tdesProtector(t, 24),
		} {
			if p.kbpk.Equal(s.p.kbpk) {
				continue
			}
			want := ErrBlock
			if p.tdes != s.p.tdes {
				want = ErrVersion
			}
			refuse(p, hostile{name + " under " + other, s.block, want})
		}
	}
	for _, h := range lies(t) {
		p := testProtector(t, 32)
		if forms[h.block[0]].block == 8 {
			p = tdesProtector(t, 16)
		}
		refuse(p, h)
	}
	if tried[ErrBlock] < 3670 || tried[ErrVersion] < 37 { // 3860 and 39
		t.Errorf("tried only %d and %d", tried[ErrBlock], tried[ErrVersion])
	}
	t.Logf("hostile blocks: %d refused as not verifying, %d as of another version", tried[ErrBlock], tried[ErrVersion])
}

// lies are blocks under the right key with a right MAC that say what cannot be.
func lies(t *testing.T) (all []hostile) {
	t.Helper()
	aes, tdes := testProtector(t, 32), tdesProtector(t, 16)
	add := func(name, header string, content []byte) {
		p := aes
		if forms[header[0]].block == 8 {
			p = tdes
		}
		block, _ := authenticated(t, p, header, content)
		all = append(all, hostile{name, block, ErrBlock})
	}
	good := append([]byte{0, 128}, "sixteen secrets!and padding to the longest key"[:46]...)
	for _, c := range malformed {
		add(c.what+" in "+c.id, padded(c.id, c.data), good)
	}
	for name, header := range map[string]string{
		"optional block twice":                "D0000D0AB00E0300LB06xxLB06xxPB04",
		"unknown optional block twice":        "D0000D0AB00E0200ZZ08aaaaZZ08aaaa",
		"PB twice":                            "D0000D0AB00E0200PB080000PB080000",
		"KS twice":                            "D0000B1TX00E0300KS18FFFF9876543210E00000KS18FFFF9876543210E00000PB1000000000000000",
		"optional blocks of no whole block":   "D0000D0AB00E0100LB06xx",
		"optional blocks of half a block":     "D0000D0AB00E0100LB08xxxx",
		"TDES: optional blocks of half":       "B0000D0TB00E0100LB04",
		"A: optional blocks of half":          "A0000D0TB00E0100LB04",
		"length of 3":                         "D0000D0AB00E0100LB03xxxxxxxxxxxx",
		"length of 1":                         "D0000D0AB00E0100LB01xxxxxxxxxxxx",
		"length into the content":             "D0000D0AB00E0100LB11xxxxxxxxxxxx",
		"length to the end of the block":      "D0000D0AB00E0100LBFFxxxxxxxxxxxx",
		"length in lower case":                "D0000D0AB00E0100LB0fxxxxxxxxxxxxx"[:32],
		"length with a blank":                 "D0000D0AB00E0100LB 8xxxxxxxxxxxx",
		"length with a sign":                  "D0000D0AB00E0100LB+Fxxxxxxxxxxxx",
		"extended length counted in bytes":    "D0000D0AB00E0100LB000200000010xx",
		"extended length shorter than itself": "D0000D0AB00E0100LB00040009xxxxxx",
		"extended length of 0":                "D0000D0AB00E0100LB00040000xxxxxx",
		"extended length of 4":                "D0000D0AB00E0100LB00040004xxxxxx",
		"extended length huge":                "D0000D0AB00E0100LB0004FFFFxxxxxx",
		"extended length one too long":        "D0000D0AB00E0100LB00040011xxxxxx",
		"extended length of no digits":        "D0000D0AB00E0100LB0000xxxxxxxxxx",
		"extended length of 5 digits":         "D0000D0AB00E0100LB000500010xxxxx",
		"extended length of 8 digits":         "D0000D0AB00E0100LB000800000010xx",
		"extended length of 16 digits":        "D0000D0AB00E0100LB0010000000000000",
		"extended length of 255 digits":       "D0000D0AB00E0100LB00FF0000000010",
		"length of the length not hex":        "D0000D0AB00E0100LB000G0010xxxxxx",
		"length of the length in lower case":  "D0000D0AB00E0100LB000a0010xxxxxx",
		"extended length not hexadecimal":     "D0000D0AB00E0100LB0004001Gxxxxxx",
		"extended length in lower case":       "D0000D0AB00E0100LB0004001axxxxxx",
		"more optional blocks than are there": "D0000D0AB00E0200LB10xxxxxxxxxxxx",
		"99 optional blocks":                  "D0000D0AB00E9900LB10xxxxxxxxxxxx",
		"fewer optional blocks than there":    "D0000D0AB00E0000LB10xxxxxxxxxxxx",
		"NUL in an optional block":            "D0000D0AB00E0100LB10xxxxxx\x00xxxxx",
		"DEL in an optional block":            "D0000D0AB00E0100LB10xxxxxx\x7fxxxxx",
		"line end in an optional block":       "D0000D0AB00E0100LB10xxxxxx\nxxxxx",
		"not ASCII in an optional block":      "D0000D0AB00E0100LB10xxxxxxéxxxx",
		"count in hexadecimal":                "D0000D0AB00E0A00",
		"count with a sign":                   "D0000D0AB00E+000",
		"count of blanks":                     "D0000D0AB00E  00",
		"usage not printable":                 "D0000\x00\x00AB00E0000",
		"version Z":                           "Z0000D0AB00E0000",
		"version of ISO 20038":                "E0000D0AB00E0000",
		"version 0 of a maker":                "00000D0AB00E0000",
	} {
		add(name, header, good)
	}
	for _, bits := range []int{0, 1, 7, 9, 63, 65, 72, 80, 96, 112, 120, 127, 129, 136, 160, 184, 191, 193, 200, 255, 257, 264, 320, 368, 376, 384, 512, 4096, 65528, 65535} {
		content := append([]byte{byte(bits >> 8), byte(bits)}, good[2:]...)
		add(fmt.Sprintf("AES key of %d bits", bits), "D0000D0AB00E0000", content)
		add(fmt.Sprintf("TDES key of %d bits", bits), "D0000D0TB00E0000", content)
		add(fmt.Sprintf("B: TDES key of %d bits", bits), "B0000D0TB00E0000", content)
		add(fmt.Sprintf("A: TDES key of %d bits", bits), "A0000D0TB00E0000", content)
		if bits < minHMAC || bits > 8*46 || bits%8 != 0 {
			add(fmt.Sprintf("HMAC key of %d bits", bits), "D0000M7HC00E0000", content)
		}
		if bits == 0 || bits > 8*46 || bits%8 != 0 {
			add(fmt.Sprintf("RSA key of %d bits", bits), "D0000S0RS00E0000", content)
		}
	}
	return all
}

// padded is a header with one optional block and the padding that it wants.
func padded(id, data string) string {
	h := home(OptionalBlock{id, data})
	h.KeyVersion, h.Exportability, h.Version = "00", 'E', 'D'
	text, err := h.format(0)
	if err != nil {
		panic(err)
	}
	return text
}

// TestEveryBit flips each bit of header and optional blocks of each sample, and of the rest: all of them are refused.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	flipped := 0
	for name, s := range samples(t) {
		if _, err := s.p.Unwrap(s.block); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range s.block {
			for bit := range 8 {
				text := []byte(s.block)
				text[i] ^= 1 << bit
				c, err := s.p.Unwrap(string(text))
				if !errors.Is(err, ErrBlock) && !errors.Is(err, ErrVersion) || !c.Material().IsZero() {
					t.Fatalf("%s: bit %d of character %d flipped: %v", name, bit, i, err)
				}
				flipped++
			}
		}
	}
	t.Logf("flipped: %d bits of %d blocks", flipped, len(samples(t)))
	if flipped < 10150 { // 10688
		t.Errorf("only %d bits", flipped)
	}
}
