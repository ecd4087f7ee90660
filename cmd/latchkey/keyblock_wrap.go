package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// wrappedBlock is what wrap and rewrap answer.
type wrappedBlock struct {
	Block   string `json:"block"`
	KCV     string `json:"kcv,omitempty"`
	KBPKKCV string `json:"kbpkKcv"`
}

// show writes the key block alone on a line of standard output, for the next program, and the check values for people.
func (w wrappedBlock) show(c *console) error {
	if c.format == "json" {
		return c.json(w)
	}
	if w.KCV != "" {
		c.note("check value of the key: %s", w.KCV)
	}
	c.note("check value of the protection key: %s", w.KBPKKCV)
	_, err := fmt.Fprintln(c.stdout, w.Block)
	return err
}

// blockError gives an error of the key block package its exit code.
func blockError(err error) error {
	switch {
	case errors.Is(err, keyblock.ErrStrength):
		return exit.With(exit.Refused, err, "take a protection key of the strength of the key, or a stronger one")
	case errors.Is(err, keyblock.ErrUse):
		return exit.With(exit.Refused, err, "only keys of exportability E and S leave")
	}
	return exit.With(exit.Usage, err, "see: latchkey keyblock wrap --help")
}

// wrapRequest is what keyblock wrap asks for.
type wrapRequest struct {
	kbpkFile, keyFile, version                             string
	algorithm, usage, mode, exportability, number, context string
	optional                                               []string
	generate                                               bool
}

func newKeyBlockWrap(c *console) *cobra.Command {
	var r wrapRequest
	cmd := &cobra.Command{
		Use:   "wrap",
		Short: "Wrap a key in a key block",
		Long: `Wrap writes a key block of version D (AES protection key) or B (TDES protection key): the key in a file, or one
that is drawn at random with --generate and never seen in clear. The block goes to standard output.

Both keys are hexadecimal digits in files; zeros, weak keys of DES and TDES keys with equal parts are refused. The
protection key must be as strong as the key, or stronger. The length of the key is hidden, as ANSI X9.143 demands. Optional
blocks are ID=DATA, in order, and are held to the standard:
  KS  initial key serial number, its counter zero; TDES B1                    IK  initial key id; AES B1
  BI  00 and key set id, 01 and base key id; B0
  KC  check value of the key                 KP  of the protection key        PK  of the protection key of an export
  TC  time of creation                       TS  time stamp                   LB  label
  DA  01 and derivations allowed             HM  hash of an HMAC key          WP  wrapping pedigree
KC= and KP= without data are computed. PB is added where it is needed.`,
		Example: kbpkExample + `  echo 1273671EA26AC29AFA4D1084127652A1 > ik.hex
  latchkey keyblock wrap --kbpk-file kbpk.hex --key-file ik.hex --algorithm AES-128 --usage B1 --mode X --optional IK=1234567890123456
  latchkey keyblock wrap --kbpk-file kbpk.hex --generate --algorithm AES-256 --usage P0 --mode B --optional KC=`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error {
			attributes, options, err := r.parse()
			if err != nil {
				return err
			}
			k, err := r.key(c, attributes)
			if err != nil {
				return err
			}
			defer k.Wipe()
			p, kcv, err := readProtector(c, r.kbpkFile, "--kbpk-file", r.version == "D")
			if err != nil {
				return err
			}
			defer p.Wipe()
			block, err := p.WrapWith(k, options)
			if err != nil {
				return blockError(err)
			}
			return wrappedBlock{Block: block, KCV: k.KCV().String(), KBPKKCV: kcv.String()}.show(c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.kbpkFile, "kbpk-file", "", kbpkUsage)
	f.StringVar(&r.keyFile, "key-file", "", "file with the key in hexadecimal digits (- for standard input)")
	f.BoolVar(&r.generate, "generate", false, "draw the key at random")
	f.StringVar(&r.version, "version", "D", "version of the key block: D (AES) or B (TDES)")
	f.StringVar(&r.algorithm, "algorithm", "", "2TDEA, 3TDEA, AES-128, AES-192, AES-256, HMAC-128, HMAC-192 or HMAC-256")
	f.StringVar(&r.usage, "usage", "", "what the key is for: B0, B1, D0, K0, K1, K4, M1, M3, M6, M7 or P0")
	f.StringVar(&r.mode, "mode", "", "mode of use: B, C, D, E, G, N, V or X")
	f.StringVar(&r.exportability, "exportability", "E", "E, N or S")
	f.StringVar(&r.number, "key-version", "", "key version of two characters (default 00)")
	f.StringVar(&r.context, "context", "0", "key context: 0 (any), 1 (storage) or 2 (key exchange)")
	f.StringArrayVar(&r.optional, "optional", nil, "optional block ID=DATA, once for each")
	required(cmd, "algorithm", "usage", "mode")
	return cmd
}

// parse reads what is not secret of the request.
func (r wrapRequest) parse() (a keys.Attributes, o keyblock.Options, err error) {
	if r.generate == (r.keyFile != "") {
		return a, o, exit.With(exit.Usage, errors.New("give either --key-file or --generate"), "")
	}
	if r.keyFile == "-" && r.kbpkFile == "-" {
		return a, o, exit.With(exit.Usage, errors.New("two keys cannot both come from standard input"), "put one of them into a file")
	}
	if err := checkVersion(r.version); err != nil {
		return a, o, err
	}
	if a.Algorithm, err = keys.ParseAlgorithm(r.algorithm); err != nil {
		return a, o, exit.With(exit.Usage, err, "as in: --algorithm AES-128")
	}
	if len(r.mode) != 1 || len(r.exportability) != 1 || len(r.context) != 1 {
		return a, o, exit.Errorf(exit.Usage, "--mode, --exportability and --context have one character each")
	}
	a.Usage, a.Mode, a.Exportability = keys.Usage(r.usage), keys.Mode(r.mode[0]), keys.Exportability(r.exportability[0])
	if err := a.Validate(); err != nil {
		return a, o, exit.With(exit.Usage, err, "see: latchkey keyblock wrap --help")
	}
	o = keyblock.Options{KeyVersion: r.number, Context: keyblock.KeyContext(r.context[0])}
	for _, text := range r.optional {
		id, data, ok := strings.Cut(text, "=")
		if !ok {
			return a, o, exit.With(exit.Usage, fmt.Errorf("--optional %q is not ID=DATA", text), "as in: --optional IK=1234567890123456")
		}
		o.Optional = append(o.Optional, keyblock.OptionalBlock{ID: id, Data: data})
	}
	return a, o, nil
}

func checkVersion(version string) error {
	if version == "B" || version == "D" {
		return nil
	}
	return exit.With(exit.Usage, fmt.Errorf("version %q is not written", version), "the versions are D (AES protection key) and B (TDES protection key)")
}

func (r wrapRequest) key(c *console, a keys.Attributes) (keys.Key, error) {
	if r.generate {
		return keys.GenerateKey(a)
	}
	raw, err := readHex(c, r.keyFile, "--key-file", "key")
	if err != nil {
		return keys.Key{}, err
	}
	defer raw.Wipe()
	k, err := keys.ImportKey(a, keys.ParityIgnored, raw.Expose())
	if err != nil {
		return k, notImported(err, fmt.Sprintf("a key of %v has %d hexadecimal digits", a.Algorithm, 2*a.Algorithm.KeyBytes()))
	}
	return k, nil
}

func newKeyBlockRewrap(c *console) *cobra.Command {
	var fromFile, toFile, version, hash string
	var drop []string
	cmd := &cobra.Command{
		Use:   "rewrap BLOCK",
		Short: "Move a key to another protection key, without showing it",
		Long: `Rewrap verifies a key block under one protection key and writes the key in a new block under another, with the same
header and the same optional blocks; KP becomes the check value of the new protection key. Use it to replace blocks of the
deprecated versions A and C, and to hand a key to somebody who holds another protection key.

A key that is not exportable (N) stays where it is. What an old block has against the standard is not written again: leave an
optional block out with --drop. An HMAC key whose block does not say its hash (HM) is moved when you say it with --hash.

BLOCK is the text of the key block, or - for standard input.`,
		Example: kbpkExample + `  echo 89E88CF7931444F334BD7547FC3F380C > old.hex
  latchkey keyblock rewrap --from-kbpk-file old.hex --to-kbpk-file kbpk.hex A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701`,
		Args: arguments("BLOCK"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkVersion(version); err != nil {
				return err
			}
			if fromFile == "-" && toFile == "-" {
				return exit.With(exit.Usage, errors.New("two keys cannot both come from standard input"), "put one of them into a file")
			}
			text, err := blockText(c, args[0], fromFile, toFile)
			if err != nil {
				return err
			}
			content, _, err := openBlock(c, text, fromFile, "--from-kbpk-file")
			if err != nil {
				return err
			}
			defer content.Wipe()
			for _, w := range content.Warnings() {
				c.note("warning: %s", w)
			}
			p, kcv, err := readProtector(c, toFile, "--to-kbpk-file", version == "D")
			if err != nil {
				return err
			}
			defer p.Wipe()
			block, err := p.RewrapWith(content, keyblock.RewrapOptions{Drop: drop, Hash: keyblock.Hash(hash)})
			if err != nil {
				return rewrapError(content, hash, err)
			}
			return wrappedBlock{Block: block, KCV: content.KCV().String(), KBPKKCV: kcv.String()}.show(c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&fromFile, "from-kbpk-file", "", "file with the protection key of the block in hexadecimal digits (- for standard input)")
	f.StringVar(&toFile, "to-kbpk-file", "", "file with the protection key of the new block in hexadecimal digits (- for standard input)")
	f.StringVar(&version, "version", "D", "version of the new block: D (AES) or B (TDES)")
	f.StringSliceVar(&drop, "drop", nil, "optional blocks to leave out")
	f.StringVar(&hash, "hash", "", "hash of an HMAC key whose block does not say it, two digits: 21 is SHA-256")
	return cmd
}

// rewrapError gives an error of a key block that is not written again its exit code.
func rewrapError(content keyblock.Content, hash string, err error) error {
	missing := slices.Contains(content.Warnings(), keyblock.Warning{Kind: keyblock.WarnMissing, ID: keyblock.OptionalHM})
	switch {
	case errors.Is(err, keyblock.ErrAbsent):
		return exit.With(exit.NotFound, err, "see: latchkey keyblock inspect")
	case errors.Is(err, keyblock.ErrOptional) && hash != "":
		return exit.With(exit.Refused, err, "--hash is for HMAC keys without HM, and has two digits")
	case errors.Is(err, keyblock.ErrOptional) && missing:
		return exit.With(exit.Refused, err, "ask who made it, and say it: --hash 21 for SHA-256")
	case errors.Is(err, keyblock.ErrOptional):
		return exit.With(exit.Refused, err, "leave it out: --drop ID")
	case errors.Is(err, keyblock.ErrHeader), errors.Is(err, keyblock.ErrKey):
		return exit.With(exit.Refused, err, "have the key block written again by the standard")
	}
	return blockError(err)
}

// clearKey is what unwrap shows.
type clearKey struct {
	Usage     string `json:"usage"`
	Algorithm string `json:"algorithm"`
	KCV       string `json:"kcv,omitempty"`
	Key       string `json:"clearKey"`
}

func newKeyBlockUnwrap(c *console) *cobra.Command {
	var kbpkFile, clearFile string
	var toStdout bool
	cmd := &cobra.Command{
		Use:   "unwrap BLOCK",
		Short: "DANGEROUS: write the key of a key block in clear",
		Long: `Unwrap verifies a key block and writes the key that it holds in clear, as hexadecimal digits. Whoever sees
them has the key: use it with test keys. A production key never leaves a secure device in clear; to move one use
latchkey keyblock rewrap, to look at one latchkey keyblock verify.

Nothing is written unless you say where: --clear-key-file makes a new file that you alone can read, --clear-key-to-stdout
prints the key. Only a key of exportability E or S is shown.

BLOCK is the text of the key block, or - for standard input.`,
		Example: kbpkExample + "  latchkey keyblock unwrap --kbpk-file kbpk.hex --clear-key-file test-key.hex " + blockExample,
		Args:    arguments("BLOCK"),
		RunE: func(_ *cobra.Command, args []string) error {
			if toStdout == (clearFile != "") {
				return exit.With(exit.Refused, errors.New("unwrap writes a key in clear only where it is told to"),
					"latchkey keyblock rewrap moves a key, latchkey keyblock verify looks at one; for a test key say --clear-key-file FILE or --clear-key-to-stdout")
			}
			text, err := blockText(c, args[0], kbpkFile)
			if err != nil {
				return err
			}
			content, _, err := openBlock(c, text, kbpkFile, "--kbpk-file")
			if err != nil {
				return err
			}
			defer content.Wipe()
			for _, w := range content.Warnings() {
				c.note("warning: %s", w)
			}
			if content.Exportability != keys.Exportable && content.Exportability != keys.Sensitive {
				return exit.With(exit.Refused, fmt.Errorf("the key is not exportable (%v)", content.Exportability), "look at it with: latchkey keyblock verify")
			}
			c.note("warning: this key is in clear now: whoever sees it has it")
			if clearFile != "" {
				return writeClear(clearFile, content.Material())
			}
			k := clearKey{
				Usage: content.Usage, Algorithm: string(rune(content.Algorithm)), KCV: content.KCV().String(),
				Key: strings.ToUpper(hex.EncodeToString(content.Material().Expose())),
			}
			return c.show(k, field{"usage", k.Usage}, field{"algorithm", k.Algorithm}, field{"KCV", k.KCV}, field{"CLEAR KEY", k.Key})
		},
	}
	f := cmd.Flags()
	f.StringVar(&kbpkFile, "kbpk-file", "", kbpkUsage)
	f.StringVar(&clearFile, "clear-key-file", "", "DANGEROUS: write the clear key to this new file, mode 0600")
	f.BoolVar(&toStdout, "clear-key-to-stdout", false, "DANGEROUS: print the clear key")
	return cmd
}
