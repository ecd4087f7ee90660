package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/pin"
)

type translatedPIN struct {
	From      string `json:"from"`
	To        string `json:"to"`
	MaskedPAN string `json:"maskedPan,omitempty"`
	FromKCV   string `json:"fromKeyKcv"`
	ToKCV     string `json:"toKeyKcv"`
	Block     string `json:"block"`
}

// translateArgs are the flags of pin translate.
type translateArgs struct {
	from, to, fromKey, toKey, panFile, newPANFile, block, fill string
}

func newPINTranslate(c *console) *cobra.Command {
	var a translateArgs
	cmd := &cobra.Command{
		Use:   "translate",
		Short: "Re-encrypt a test PIN block for another key, and perhaps format",
		Long: `Translate opens a PIN block under one test key and makes one of the same PIN under another, as a
host does between two zones. The clear PIN is never shown. A block of another key, format or card
number does not open: exit code 6, and nothing says which of them it was.

Which formats may follow each other is the table of PCI PIN Security 3.1, requirement 3-3; what it
forbids is refused with exit code 4:
` + translationHelp() + `
same card: formats 0, 3 and 4 hold a card number, and it must not change. Format 2 is for a chip card,
and no block goes to or comes from one here. Format 4-pan-12 counts as format 4.

The example opens what that of latchkey pin encode makes.

This is a bench tool: it holds the keys in memory and claims nothing. Real PINs go through
latchkey-decryptd.`,
		Example: `  printf 4111111111111111 >pan.txt; printf 0123456789ABCDEFFEDCBA9876543210 >key.hex
  printf C1D0F8FB4958670DBA40AB1F3752EF0D >zone.hex
  latchkey pin translate --from 0 --from-key-file key.hex --to 4 --to-key-file zone.hex \
    --pan-file pan.txt --block 2A3D408A1977DDE9`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error { return a.run(c) },
	}
	f := cmd.Flags()
	f.StringVar(&a.from, "from", "", "format of the block: 0, 1, 3, 4 or 4-pan-12")
	f.StringVar(&a.to, "to", "", "format of the new block: 0, 1, 3, 4 or 4-pan-12")
	f.StringVar(&a.fromKey, "from-key-file", "", "file with the PIN key of the block in hexadecimal digits (- for standard input)")
	f.StringVar(&a.toKey, "to-key-file", "", "file with the PIN key of the new block in hexadecimal digits (- for standard input)")
	f.StringVar(&a.panFile, "pan-file", "", "file with the card number (- for standard input); none from format 1 to format 1")
	f.StringVar(&a.newPANFile, "new-pan-file", "", "file with the card number of the new block, if you think it is another: refused when it is")
	f.StringVar(&a.block, "block", "", "the encrypted block in hexadecimal digits: 16, or 32 of format 4")
	f.StringVar(&a.fill, "fill", "", "16 hexadecimal digits instead of random ones, as in pin encode")
	required(cmd, "from", "to", "block")
	return cmd
}

// translationHelp spells the table for people, from the rule itself.
func translationHelp() string {
	shown := []pin.Format{pin.Format0, pin.Format1, pin.Format2, pin.Format3, pin.Format4}
	var b strings.Builder
	fmt.Fprintf(&b, "  %-10s", "from \\ to")
	for i := range shown {
		fmt.Fprintf(&b, "%-11s", blockFormats[i].name)
	}
	for i, from := range shown {
		fmt.Fprintf(&b, "\n  %-10s", blockFormats[i].name)
		for _, to := range shown {
			cell := "no"
			switch {
			case pin.CheckTranslation(from, to, true) == nil:
				cell = "yes"
			case pin.CheckTranslation(from, to, false) == nil:
				cell = "same card"
			}
			fmt.Fprintf(&b, "%-11s", cell)
		}
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

func (a translateArgs) run(c *console) error {
	from, to, err := a.formats()
	if err != nil {
		return err
	}
	fill, err := parseFill(a.fill)
	if err != nil {
		return err
	}
	block, err := hex.DecodeString(a.block)
	if err != nil || len(block) != from.BlockSize() {
		return exit.Errorf(exit.Usage, "--block is not %d hexadecimal digits, as a block of %v is", 2*from.BlockSize(), from)
	}
	pan, newPAN, err := a.pans(c, from, to)
	if err != nil {
		return err
	}
	defer pan.Wipe()
	defer newPAN.Wipe()
	fromKey, err := readPINKey(c, a.fromKey, "--from-key-file", from)
	if err != nil {
		return err
	}
	defer fromKey.wipe()
	toKey, err := readPINKey(c, a.toKey, "--to-key-file", to)
	if err != nil {
		return err
	}
	defer toKey.wipe()
	out, err := pin.Translate(nil, block, pin.Side{Format: from, PAN: pan, Cipher: fromKey.cipher},
		pin.Side{Format: to, PAN: newPAN, Cipher: toKey.cipher}, fill)
	if err != nil {
		return translationFailed(err, from, to)
	}
	defer secret.Wipe(out)
	t := translatedPIN{
		From: from.String(), To: to.String(), FromKCV: fromKey.kcv(), ToKCV: toKey.kcv(), Block: strings.ToUpper(hex.EncodeToString(out)),
	}
	fields := []field{{"from", t.From}, {"to", t.To}}
	if !newPAN.IsZero() {
		t.MaskedPAN = newPAN.Masked()
		fields = append(fields, field{"card number", t.MaskedPAN})
	}
	return c.show(t, append(fields, field{"from key KCV", t.FromKCV}, field{"to key KCV", t.ToKCV}, field{"block", t.Block})...)
}

// formats refuses what the table forbids, and flags that do not go together, before any secret is asked for.
func (a translateArgs) formats() (from, to pin.Format, err error) {
	if from, err = parseBlockFormat("--from", a.from); err != nil {
		return 0, 0, err
	}
	if to, err = parseBlockFormat("--to", a.to); err != nil {
		return 0, 0, err
	}
	if err := pin.CheckTranslation(from, to, false); err != nil {
		return 0, 0, translationFailed(err, from, to)
	}
	switch {
	case !to.HasPAN() && a.panFile != "":
		err = exit.With(exit.Usage, fmt.Errorf("%v is tied to no card number", to), "leave --pan-file out")
	case !from.HasPAN() && a.newPANFile != "":
		err = exit.With(exit.Usage, fmt.Errorf("%v is tied to no card number that could change", from), "give that of the new block with --pan-file")
	default:
		err = oneStdin(a.fromKey, a.toKey, a.panFile, a.newPANFile)
	}
	return from, to, err
}

// pans reads the card number of each block. They are the same one unless the user says otherwise.
func (a translateArgs) pans(c *console, from, to pin.Format) (pan, newPAN pin.PAN, err error) {
	if !to.HasPAN() {
		return pan, newPAN, nil // nor has from: the table says so
	}
	if pan, err = readPAN(c, a.panFile, "--pan-file"); err != nil {
		return pan, newPAN, err
	}
	if a.newPANFile == "" {
		return pan, pan, nil
	}
	newPAN, err = readPAN(c, a.newPANFile, "--new-pan-file")
	if err == nil && !pan.Equal(newPAN) {
		err = translationFailed(pin.CheckTranslation(from, to, true), from, to)
	}
	if err != nil {
		pan.Wipe()
	}
	return pan, newPAN, err
}

// translationFailed gives an error of a translation its exit code and the next step.
func translationFailed(err error, from, to pin.Format) error {
	switch {
	case errors.Is(err, pin.ErrBlock):
		return exit.With(exit.Verification, err, "check the key (its check value), the format and the card number of the block")
	case !errors.Is(err, pin.ErrTranslation):
		return err
	case from == pin.Format2 || to == pin.Format2:
		return exit.With(exit.Refused, err, "a block of format 2 is between a terminal and the chip card in it: make one with latchkey pin encode --format 2 --clear")
	case to == pin.Format1:
		return exit.With(exit.Refused, err, "a PIN that came with its card number keeps it (PCI PIN 3-3): translate to 0, 3 or 4")
	}
	return exit.With(exit.Refused, err, "the card number stays as it is (PCI PIN 3-3): leave --new-pan-file out")
}
