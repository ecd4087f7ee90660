package main

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

func newPIN(c *console) *cobra.Command {
	return noun("pin", "Make and translate PIN blocks under test keys", newPINEncode(c), newPINTranslate(c))
}

// blockFormats are the formats in the order of the standard, by the short names that a person types. The long ones of the
// answers are taken too.
var blockFormats = []struct {
	name, about string
	format      pin.Format
}{
	{"0", "8 bytes, TDES, tied to the card number", pin.Format0},
	{"1", "8 bytes, TDES, tied to no card number", pin.Format1},
	{"2", "8 bytes, in the clear to a chip card only", pin.Format2},
	{"3", "8 bytes, TDES, as 0 with random fill", pin.Format3},
	{"4", "16 bytes, AES, tied to all digits of the card number", pin.Format4},
	{"4-pan-12", "16 bytes, AES, tied to the 12 digits that formats 0 and 3 use", pin.Format4PAN12},
}

func parseBlockFormat(flag, s string) (pin.Format, error) {
	names := make([]string, 0, len(blockFormats))
	for _, b := range blockFormats {
		if s == b.name || s == b.format.String() {
			return b.format, nil
		}
		names = append(names, b.name)
	}
	return 0, exit.With(exit.Usage, fmt.Errorf("%s %q is no PIN block format", flag, s), "one of: "+strings.Join(names, ", "))
}

func blockFormatHelp() string {
	var b strings.Builder
	for _, f := range blockFormats {
		fmt.Fprintf(&b, "  %-10s%s\n", f.name, f.about)
	}
	return b.String()
}

type encodedPIN struct {
	Format    string `json:"format"`
	MaskedPAN string `json:"maskedPan,omitempty"`
	KeyKCV    string `json:"keyKcv,omitempty"`
	Clear     bool   `json:"clear"`
	Block     string `json:"block"`
}

// encodeArgs are the flags of pin encode.
type encodeArgs struct {
	format, fill, pinFile, panFile, keyFile string
	clear                                   bool
}

func newPINEncode(c *console) *cobra.Command {
	var a encodeArgs
	cmd := &cobra.Command{
		Use:   "encode",
		Short: "Put a test PIN into a PIN block of ISO 9564-1",
		Long: `Encode makes a PIN block as a terminal does, to hold another implementation against. With
--key-file the block is encrypted: under a TDES key of 32 or 48 hexadecimal digits for formats 0, 1 and
3, under an AES key of 32, 48 or 64 for format 4. With --clear it is not, and is as secret as the PIN.

Formats:
` + blockFormatHelp() + `
What is random in a block comes from the system's random source, so that no two blocks are the same;
--fill gives it instead, to repeat a published example: the transaction field of format 1, the second
half of format 4, and what the fill nibbles of format 3 are drawn from.

This is a bench tool: it holds PIN and key in memory and claims nothing. A real PIN is typed on the
PIN pad and leaves it encrypted.`,
		Example: `  printf 1234 >pin.txt; printf 4111111111111111 >pan.txt; printf 0123456789ABCDEFFEDCBA9876543210 >key.hex
  latchkey pin encode --format 0 --pin-file pin.txt --pan-file pan.txt --key-file key.hex
  latchkey pin encode --format 3 --pin-file pin.txt --pan-file pan.txt --clear`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error { return a.run(c) },
	}
	f := cmd.Flags()
	f.StringVar(&a.format, "format", "", "PIN block format: 0, 1, 2, 3, 4 or 4-pan-12")
	f.StringVar(&a.pinFile, "pin-file", "", "file with the PIN (- for standard input)")
	f.StringVar(&a.panFile, "pan-file", "", "file with the card number (- for standard input); none for formats 1 and 2")
	f.StringVar(&a.keyFile, "key-file", "", "file with the PIN key in hexadecimal digits (- for standard input)")
	f.BoolVar(&a.clear, "clear", false, "show the block in the clear: that of a real customer must not be shown")
	f.StringVar(&a.fill, "fill", "", "16 hexadecimal digits instead of random ones")
	required(cmd, "format")
	return cmd
}

func (a encodeArgs) run(c *console) error {
	f, fill, err := a.check()
	if err != nil {
		return err
	}
	p, err := readPIN(c, a.pinFile)
	if err != nil {
		return err
	}
	defer p.Wipe()
	var pan pin.PAN
	if f.HasPAN() {
		if pan, err = readPAN(c, a.panFile, "--pan-file"); err != nil {
			return err
		}
		defer pan.Wipe()
	}
	e := encodedPIN{Format: f.String(), Clear: a.clear}
	var block []byte
	if a.clear {
		block, err = f.Append(nil, p, pan, fill)
	} else {
		var key pinKey
		if key, err = readPINKey(c, a.keyFile, "--key-file", f); err != nil {
			return err
		}
		defer key.wipe()
		e.KeyKCV = key.kcv()
		block, err = f.Encrypt(nil, key.cipher, p, pan, fill)
	}
	if err != nil {
		return err
	}
	defer secret.Wipe(block)
	e.Block = strings.ToUpper(hex.EncodeToString(block))
	return e.show(c, pan)
}

// check refuses what does not go together, before any secret is asked for.
func (a encodeArgs) check() (pin.Format, pin.Fill, error) {
	f, err := parseBlockFormat("--format", a.format)
	if err != nil {
		return 0, pin.Fill{}, err
	}
	switch {
	case a.clear && a.keyFile != "":
		err = exit.With(exit.Usage, errors.New("--clear and --key-file contradict each other"), "leave one of them out")
	case f == pin.Format2 && !a.clear:
		err = exit.With(exit.Refused, fmt.Errorf("a block of %v goes to a chip card and never under a PIN key", f), "make it with --clear, or choose another --format")
	case f.BlockSize() == aes.BlockSize && a.clear:
		err = exit.With(exit.Usage, fmt.Errorf("%v has no clear block: the PIN field is encrypted before the card number is added", f), "name a key with --key-file")
	case !f.HasPAN() && a.panFile != "":
		err = exit.With(exit.Usage, fmt.Errorf("%v is tied to no card number", f), "leave --pan-file out")
	default:
		err = oneStdin(a.pinFile, a.panFile, a.keyFile)
	}
	if err != nil {
		return 0, pin.Fill{}, err
	}
	fill, err := parseFill(a.fill)
	return f, fill, err
}

func (e encodedPIN) show(c *console, pan pin.PAN) error {
	fields := []field{{"format", e.Format}}
	if !pan.IsZero() {
		e.MaskedPAN = pan.Masked()
		fields = append(fields, field{"card number", e.MaskedPAN})
	}
	if e.Clear {
		return c.show(e, append(fields, field{"clear block", e.Block})...)
	}
	return c.show(e, append(fields, field{"key KCV", e.KeyKCV}, field{"block", e.Block})...)
}

// oneStdin refuses two secrets from standard input: which line is which would be a guess.
func oneStdin(paths ...string) error {
	n := 0
	for _, p := range paths {
		if p == "-" {
			n++
		}
	}
	if n > 1 {
		return exit.With(exit.Usage, errors.New("only one secret comes from standard input"), "put the others into files")
	}
	return nil
}

// parseFill reads what --fill gives, and draws it when it gives nothing.
func parseFill(s string) (pin.Fill, error) {
	if s == "" {
		return pin.GenerateFill(), nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(pin.Fill{}) {
		return pin.Fill{}, exit.Errorf(exit.Usage, "--fill is not 16 hexadecimal digits")
	}
	return pin.Fill(b), nil
}

func readPIN(c *console, path string) (pin.PIN, error) {
	text, err := c.secret(path, "--pin-file", "PIN")
	if err != nil {
		return pin.PIN{}, err
	}
	defer text.Wipe()
	p, err := pin.ParsePIN(text.Expose())
	return p, exit.With(exit.Usage, err, "write the digits and nothing else to the file of --pin-file")
}

func readPAN(c *console, path, flag string) (pin.PAN, error) {
	text, err := c.secret(path, flag, "card number")
	if err != nil {
		return pin.PAN{}, err
	}
	defer text.Wipe()
	p, err := pin.ParsePAN(string(text.Expose()))
	return p, exit.With(exit.Usage, err, "write the digits and nothing else to the file of "+flag)
}

// pinKey is a test key and the cipher under it.
type pinKey struct {
	key    keys.Key
	cipher cipher.Block
}

func (k pinKey) kcv() string { return k.key.KCV().String() }

func (k pinKey) wipe() {
	k.key.Wipe()
	if c, ok := k.cipher.(*des.Cipher); ok {
		c.Wipe()
		return
	}
	secret.WipeCipher(k.cipher)
}

// pinKeyHint says how long the keys are.
const pinKeyHint = "formats 0, 1 and 3 take a TDES key of 32 or 48 hexadecimal digits, format 4 an AES key of 32, 48 or 64"

// readPINKey reads the key of a format: the length says which of the algorithms that go with the format it is of.
func readPINKey(c *console, path, flag string, f pin.Format) (pinKey, error) {
	raw, err := readHex(c, path, flag, "PIN key")
	if err != nil {
		return pinKey{}, err
	}
	defer raw.Wipe()
	algorithms := map[int]keys.Algorithm{16: keys.TDES2, 24: keys.TDES3}
	if f.BlockSize() == aes.BlockSize {
		algorithms = map[int]keys.Algorithm{16: keys.AES128, 24: keys.AES192, 32: keys.AES256}
	}
	algorithm, ok := algorithms[raw.Len()]
	if !ok {
		return pinKey{}, exit.With(exit.Usage, fmt.Errorf("%s: a key of %d bytes does not go with %v", flag, raw.Len(), f), pinKeyHint)
	}
	key, err := keys.NewKey(keys.Attributes{
		Algorithm: algorithm, Usage: keys.UsagePIN, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, raw.Expose())
	if err != nil {
		return pinKey{}, exit.With(exit.Usage, fmt.Errorf("%s: %w", flag, err), pinKeyHint)
	}
	k := pinKey{key: key}
	if algorithm.IsAES() {
		k.cipher, err = aes.NewCipher(key.Material().Expose())
	} else {
		k.cipher, err = des.New(key.Material().Expose())
	}
	if err != nil {
		key.Wipe()
		return pinKey{}, err
	}
	return k, nil
}
