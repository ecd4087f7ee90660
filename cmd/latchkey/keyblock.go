package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

func newKeyBlock(c *console) *cobra.Command {
	return noun("keyblock", "Key blocks (ANSI X9.143, TR-31): inspect, verify, wrap, rewrap, unwrap",
		newKeyBlockInspect(c), newKeyBlockVerify(c), newKeyBlockWrap(c), newKeyBlockRewrap(c), newKeyBlockUnwrap(c))
}

// shownBlock is what inspect and verify say of a key block.
type shownBlock struct {
	Authenticated bool          `json:"authenticated"`
	Version       string        `json:"version"`
	Usage         string        `json:"usage"`
	UsageName     string        `json:"usageName,omitempty"`
	Algorithm     string        `json:"algorithm"`
	AlgorithmName string        `json:"algorithmName,omitempty"`
	Mode          string        `json:"mode"`
	ModeName      string        `json:"modeName,omitempty"`
	KeyVersion    string        `json:"keyVersion"`
	Exportability string        `json:"exportability"`
	KeyContext    string        `json:"keyContext"`
	Optional      []shownOption `json:"optional"`
	KeyBits       int           `json:"keyBits,omitempty"`
	KCV           string        `json:"kcv,omitempty"`
	KBPKKCV       string        `json:"kbpkKcv,omitempty"`
	Warnings      []string      `json:"warnings"`
}

type shownOption struct {
	ID      string `json:"id"`
	Data    string `json:"data"`
	Meaning string `json:"meaning,omitempty"`
}

func describeBlock(h keyblock.Header, warnings []keyblock.Warning) shownBlock {
	b := shownBlock{
		Version: string(rune(h.Version)), Usage: h.Usage, UsageName: usageNames[h.Usage], Algorithm: string(rune(h.Algorithm)),
		AlgorithmName: algorithmNames[h.Algorithm], Mode: h.Mode.String(), ModeName: modeNames[h.Mode], KeyVersion: h.KeyVersion,
		Exportability: h.Exportability.String(), KeyContext: h.Context().String(), Optional: []shownOption{}, Warnings: []string{},
	}
	for _, ob := range h.Optional {
		b.Optional = append(b.Optional, shownOption{ID: ob.ID, Data: ob.Data, Meaning: meaning(h, ob.ID)})
	}
	for _, w := range warnings {
		b.Warnings = append(b.Warnings, w.String())
	}
	return b
}

// show writes a key block, and its warnings on standard error.
func (b shownBlock) show(c *console) error {
	fields := []field{
		{"version", b.Version}, {"usage", coded(b.Usage, b.UsageName)}, {"algorithm", coded(b.Algorithm, b.AlgorithmName)},
		{"mode of use", coded(b.Mode, b.ModeName)}, {"key version", b.KeyVersion},
		{"exportability", coded(b.Exportability, exportNames[b.Exportability])}, {"key context", coded(b.KeyContext, contextNames[b.KeyContext])},
	}
	for _, o := range b.Optional {
		fields = append(fields, field{"optional block " + o.ID, shorten(o.Data) + parenthesised(o.Meaning)})
	}
	if b.Authenticated {
		fields = append(fields, field{"key length", fmt.Sprintf("%d bits", b.KeyBits)})
		if b.KCV != "" {
			fields = append(fields, field{"KCV", b.KCV})
		}
		fields = append(fields, field{"protection key KCV", b.KBPKKCV})
	}
	fields = append(fields, field{"verified", map[bool]string{true: "yes", false: "no: nothing of this is authenticated"}[b.Authenticated]})
	for _, w := range b.Warnings {
		c.note("warning: %s", w)
	}
	return c.show(b, fields...)
}

// coded is a code and its name.
func coded(code, name string) string { return code + parenthesised(name) }

func parenthesised(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// shorten cuts the data of an optional block to what fits a line; -o json has all of it.
func shorten(data string) string {
	const most = 60
	if len(data) <= most {
		return data
	}
	return fmt.Sprintf("%s… (%d characters)", data[:most], len(data))
}

// blockText takes a key block from the command line, or from standard input for -. One line end is cut.
func blockText(c *console, arg string, files ...string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	for _, f := range files {
		if f == "-" {
			return "", exit.With(exit.Usage, errors.New("the key block and a key cannot both come from standard input"), "put one of them into a file or on the command line")
		}
	}
	b, err := io.ReadAll(io.LimitReader(c.stdin, 16<<10))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// A key block of the standard's samples, and the test key that it is under.
const (
	blockExample = "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34"
	kbpkExample  = "  echo 88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6 > kbpk.hex # a test key\n"
)

const blockHint = "a key block begins with its version, A to D, and has the number of its characters in the next four"

func newKeyBlockInspect(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect BLOCK",
		Short: "Say what the header of a key block says, without a key",
		Long: `Inspect reads the header and the optional blocks of a key block of version A, B, C or D, and says what they mean.
No key is needed, and nothing is verified: whoever can write the text can write the header. Use it to find
out what somebody sent; act on what latchkey keyblock verify says.

BLOCK is the text of the key block, or - for standard input.`,
		Example: "  latchkey keyblock inspect " + blockExample,
		Args:    arguments("BLOCK"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := blockText(c, args[0])
			if err != nil {
				return err
			}
			h, err := keyblock.Inspect(text)
			if err != nil {
				return exit.With(exit.Usage, err, blockHint)
			}
			return describeBlock(h, h.Warnings()).show(c)
		},
	}
}

func newKeyBlockVerify(c *console) *cobra.Command {
	var kbpkFile string
	var strict bool
	cmd := &cobra.Command{
		Use:   "verify BLOCK",
		Short: "Verify a key block under its protection key, and show what it holds but for the key",
		Long: `Verify checks the MAC of a key block and shows its header, the length and the check value of its key. The key
itself is not shown.

The protection key (KBPK) is hexadecimal digits in a file: an AES key for version D, a TDES key for versions A, B and C.
What a block has against the standard and is read all the same comes as a warning on standard error; with
--strict such a block is refused (exit code 4). A block that does not verify ends with exit code 6.

BLOCK is the text of the key block, or - for standard input.`,
		Example: kbpkExample + "  latchkey keyblock verify --kbpk-file kbpk.hex " + blockExample,
		Args:    arguments("BLOCK"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := blockText(c, args[0], kbpkFile)
			if err != nil {
				return err
			}
			content, kcv, err := openBlock(c, text, kbpkFile, "--kbpk-file")
			if err != nil {
				return err
			}
			defer content.Wipe()
			b := describeBlock(content.Header, content.Warnings())
			b.Authenticated, b.KeyBits, b.KCV, b.KBPKKCV = true, 8*content.Material().Len(), content.KCV().String(), kcv.String()
			if err := b.show(c); err != nil {
				return err
			}
			if strict && len(b.Warnings) > 0 {
				return exit.With(exit.Refused, fmt.Errorf("the key block has %d warnings", len(b.Warnings)), "have it written again by the standard, or leave --strict out")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&kbpkFile, "kbpk-file", "", kbpkUsage)
	cmd.Flags().BoolVar(&strict, "strict", false, "refuse a key block that has warnings")
	return cmd
}

const kbpkUsage = "file with the protection key in hexadecimal digits (- for standard input)"

// openBlock unwraps a key block under the key in a file, and returns the check value of that key too.
func openBlock(c *console, text, file, flag string) (keyblock.Content, keys.KCV, error) {
	h, err := keyblock.Inspect(text)
	if err != nil {
		return keyblock.Content{}, keys.KCV{}, exit.With(exit.Usage, err, blockHint)
	}
	p, kcv, err := readProtector(c, file, flag, h.Version == 'D')
	if err != nil {
		return keyblock.Content{}, keys.KCV{}, err
	}
	defer p.Wipe()
	content, err := p.Unwrap(text)
	if err != nil {
		err = exit.With(exit.Verification, err, fmt.Sprintf("the block was altered, or its protection key is not the one with the check value %v", kcv))
	}
	return content, kcv, err
}

// notImported gives the refusal of a key that came in as digits its exit code; hint is for one of another length.
func notImported(err error, hint string) error {
	if errors.Is(err, keys.ErrWeak) {
		return exit.With(exit.Refused, err, "a key is drawn at random: nobody chooses its digits")
	}
	return exit.With(exit.Usage, err, hint)
}

// readProtector reads a protection key of AES or TDES.
func readProtector(c *console, file, flag string, aes bool) (*keyblock.Protector, keys.KCV, error) {
	candidates := []keys.Algorithm{keys.TDES2, keys.TDES3}
	want := "blocks of versions A, B and C have a TDES protection key of 32 or 48 hexadecimal digits"
	if aes {
		candidates = []keys.Algorithm{keys.AES128, keys.AES192, keys.AES256}
		want = "blocks of version D have an AES protection key of 32, 48 or 64 hexadecimal digits"
	}
	raw, err := readHex(c, file, flag, "protection key")
	if err != nil {
		return nil, keys.KCV{}, err
	}
	defer raw.Wipe()
	a := keys.Attributes{Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable}
	for _, candidate := range candidates {
		if candidate.KeyBytes() == raw.Len() {
			a.Algorithm = candidate
		}
	}
	if !a.Algorithm.IsValid() {
		return nil, keys.KCV{}, exit.With(exit.Usage, fmt.Errorf("the protection key has %d bytes", raw.Len()), want)
	}
	k, err := keys.ImportKey(a, keys.ParityIgnored, raw.Expose())
	if err != nil {
		return nil, keys.KCV{}, notImported(fmt.Errorf("protection key: %w", err), want)
	}
	defer k.Wipe()
	p, err := keyblock.NewProtector(k)
	return p, k.KCV(), exit.With(exit.Refused, err, "use version D and an AES protection key")
}
