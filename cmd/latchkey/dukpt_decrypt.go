package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

type opened struct {
	KSN       string `json:"ksn"`
	Profile   string `json:"profile"`
	Mode      string `json:"mode"`
	Key       string `json:"key,omitempty"` // of AES
	Direction string `json:"direction"`
	Padding   string `json:"padding"`
	BaseKCV   string `json:"baseKeyKcv"`
	Kind      string `json:"kind"`
	MaskedPAN string `json:"maskedPan,omitempty"`
	Bytes     int    `json:"bytes"`
	SHA256    string `json:"sha256,omitempty"`
	Clear     string `json:"clear,omitempty"`
}

// What the caller says the data is. Without a card number in it, card data was opened in the wrong way; of raw data
// nothing tells.
const (
	kindCard = "card"
	kindRaw  = "raw"
)

// decryption is what the flags say.
type decryption struct {
	bdkFile, ksn, cipherText, cipherFile  string
	profile, mode, key, direction, padded string
	iv, kind                              string
	reveal                                bool
}

func newDUKPTDecrypt(c *console) *cobra.Command {
	var d decryption
	cmd := &cobra.Command{
		Use:   "decrypt",
		Short: "Open one swipe of a reader under a test base key",
		Long: `Decrypt opens card data that a reader encrypted under a DUKPT key, to find out whether a base key,
a KSN and a maker's profile belong together. It shows the card number masked; the clear text only
with --reveal.

Data that holds no card number, such as what a reader says about the magnetic stripe itself, is opened
with --kind raw and a named profile: it shows the length and the SHA-256 digest, and the bytes only with
--reveal. Nothing tells then whether key, KSN and profile belong together: compare the digest.

Profiles:
` + profileHelp() + `  auto       tries all of them and says which one fits

A named profile means CBC mode, an AES-128 key under AES, the data of a request, and no padding that comes off;
--mode, --key-type, --direction and --padding say otherwise. With auto, each of --mode and --key-type left out
means that all are tried, as latchkey dukpt explain does. Data from the host to the terminal has --direction response:
the response variant under TDES (magtek and bare have one key for both), usage 3001 under AES.

This is a bench tool: it holds the base key in memory and claims nothing. Production data goes
through latchkey-decryptd.`,
		Example: `  latchkey dukpt decrypt --bdk-file bdk.hex --ksn FFFF9876543210E00008 --profile magtek --data C25C1D11…
  latchkey dukpt decrypt --bdk-file bdk.hex --ksn 123456789012345600000001 --profile aes --key-type AES256 --mode ecb \
    --padding pkcs7 --ciphertext swipe.hex`,
		Args: arguments(),
		RunE: func(*cobra.Command, []string) error { return d.run(c) },
	}
	f := cmd.Flags()
	f.StringVar(&d.bdkFile, "bdk-file", "", "file with the base derivation key in hexadecimal digits (- for standard input)")
	f.StringVar(&d.ksn, "ksn", "", "key serial number sent with the data")
	f.StringVar(&d.profile, "profile", "auto", "how the reader uses the key: "+profileNames())
	f.StringVar(&d.mode, "mode", "", "cbc or ecb (default cbc; with auto, both are tried)")
	f.StringVar(&d.key, "key-type", "", "type of AES DUKPT working key: AES128, AES192, AES256, 2TDEA or 3TDEA (default AES128; with auto, all are tried)")
	f.StringVar(&d.direction, "direction", "", "request, response or both (default that of the profile)")
	f.StringVar(&d.padded, "padding", dukpt.NoPadding.String(), "what comes off after decryption: none, zero (stays on), iso9797-method2 or pkcs7")
	f.StringVar(&d.kind, "kind", kindCard, "what the data is: card (it holds a card number) or raw (it need not)")
	f.StringVar(&d.cipherText, "data", "", "the encrypted data in hexadecimal digits")
	f.StringVar(&d.cipherFile, "ciphertext", "", "file with the encrypted data in hexadecimal digits (- for standard input), in place of --data")
	f.StringVar(&d.iv, "iv", "", "initialization vector of CBC mode in hexadecimal digits (default all zeros)")
	f.BoolVar(&d.reveal, "reveal", false, "show the clear text: card data of a real customer must not be shown")
	required(cmd, "ksn")
	return cmd
}

func (d *decryption) run(c *console) error {
	ksn, err := parseKSN(d.ksn)
	if err != nil {
		return err
	}
	if d.kind != kindCard && d.kind != kindRaw {
		return exit.Errorf(exit.Usage, "--kind %q is neither %s nor %s", d.kind, kindCard, kindRaw)
	}
	ways, err := d.ways(ksn.Scheme())
	if err != nil {
		return err
	}
	ct, err := d.readData(c)
	if err != nil {
		return err
	}
	bdk, err := readHexKey(c, d.bdkFile, ksn.Scheme())
	if err != nil {
		return err
	}
	defer bdk.Wipe()
	e, err := beginEnds(bdk, ksn)
	if err != nil {
		return err
	}
	defer e.end()
	open := d.openSwipe
	if d.kind == kindRaw {
		open = d.openRaw
	}
	w, clear, err := open(e, ways, ct)
	if err != nil {
		return err
	}
	defer clear.Wipe()
	o := opened{
		KSN: ksn.String(), Profile: w.profiles[0], Mode: w.spec.Mode.String(), Direction: w.spec.Direction.String(),
		Padding: w.spec.Padding.String(), BaseKCV: bdk.KCV().String(), Kind: d.kind, Bytes: clear.Len(),
	}
	if w.spec.Key != 0 {
		o.Key = w.spec.Key.String()
	}
	if d.kind == kindRaw {
		return showRaw(c, o, clear, d.reveal)
	}
	return showSwipe(c, o, clear, d.reveal)
}

// readData reads the encrypted data, which is no secret, from where the flags say.
func (d *decryption) readData(c *console) ([]byte, error) {
	switch {
	case (d.cipherText == "") == (d.cipherFile == ""):
		return nil, exit.With(exit.Usage, errors.New("the encrypted data comes from --data or from --ciphertext: name one"),
			"see: latchkey dukpt decrypt --help")
	case d.cipherFile == "":
		ct, err := hex.DecodeString(d.cipherText)
		if err != nil {
			return nil, exit.Errorf(exit.Usage, "--data is not an even number of hexadecimal digits")
		}
		return ct, nil
	case fromStdin(d.cipherFile) && fromStdin(d.bdkFile):
		return nil, exit.With(exit.Usage, errors.New("the base key and the data cannot both come from standard input"),
			"name a file with --bdk-file or with --ciphertext")
	}
	ct, err := readHex(c, d.cipherFile, "--ciphertext", "encrypted data")
	return ct.Expose(), err
}

// ways are those of the profile, or of all profiles, that the other flags leave.
func (d *decryption) ways(scheme dukpt.Scheme) ([]way, error) {
	want, err := d.spec(scheme)
	if err != nil {
		return nil, err
	}
	tried := waysOf(scheme)
	if d.profile != "auto" {
		p, err := named(d.profile, scheme)
		if err != nil {
			return nil, err
		}
		p.spec.Mode, p.spec.Key = cmp.Or(want.Mode, dukpt.CBC), cmp.Or(want.Key, p.spec.Key)
		tried = []way{{[]string{p.name}, p.spec}}
	}
	var ways []way
	for _, w := range tried {
		other := want.Mode != 0 && w.spec.Mode != want.Mode || want.Key != 0 && w.spec.Key != want.Key ||
			d.profile == "auto" && want.IV != nil && w.spec.Mode != dukpt.CBC
		if other || !w.turn(scheme, want.Direction) {
			continue
		}
		w.spec.IV, w.spec.Padding = want.IV, want.Padding
		ways = append(ways, w)
	}
	if len(ways) == 0 {
		return nil, exit.With(exit.Usage, fmt.Errorf("profile %s does not go with --direction %s and --mode %s", d.profile, d.direction, d.mode),
			"under AES, aes is for requests and responses and aes-both for both; --iv is for CBC mode")
	}
	return ways, nil
}

// spec is what the flags say of a way; what they leave out is zero.
func (d *decryption) spec(scheme dukpt.Scheme) (s dukpt.DataSpec, err error) {
	if d.mode != "" {
		if s.Mode, err = dukpt.ParseCipherMode(strings.ToUpper(d.mode)); err != nil {
			return s, exit.With(exit.Usage, err, "--mode is cbc or ecb")
		}
	}
	if d.direction != "" {
		if s.Direction, err = dukpt.ParseDirection(d.direction); err != nil {
			return s, exit.With(exit.Usage, err, "--direction is request, response or both")
		}
	}
	if d.key != "" {
		s.Key, err = dukpt.ParseWorkingKey(d.key)
		if err != nil || scheme != dukpt.AES || !slices.Contains(cipherTypes, s.Key) {
			return s, exit.With(exit.Usage, fmt.Errorf("--key-type %q does not exist for a %s KSN", d.key, scheme),
				"AES has AES128, AES192, AES256, 2TDEA and 3TDEA; TDES has one type of key")
		}
	}
	if s.Padding, err = dukpt.ParseDataPadding(d.padded); err != nil {
		return s, exit.With(exit.Usage, err, "--padding is none, zero, iso9797-method2 or pkcs7")
	}
	if d.iv != "" {
		if s.IV, err = hex.DecodeString(d.iv); err != nil {
			return s, exit.Errorf(exit.Usage, "--iv is not hexadecimal")
		}
	}
	return s, nil
}

// turn gives a way a direction, if it has that: under AES the key for both ways is a profile of its own.
func (w *way) turn(scheme dukpt.Scheme, d dukpt.Direction) bool {
	if d == 0 || d == w.spec.Direction {
		return true
	}
	if scheme == dukpt.AES && (d == dukpt.Both || w.spec.Direction == dukpt.Both) {
		return false
	}
	w.spec.Direction = d
	return true
}

// ends are both ends of one transaction: the data of a request opens at the host, and that of a response at the terminal.
type ends struct {
	base     *dukpt.BaseKey
	host     *dukpt.HostTransaction
	terminal *dukpt.Terminal
	request  *dukpt.Transaction
}

func beginEnds(bdk keys.Key, ksn dukpt.KSN) (e ends, err error) {
	if e.base, err = dukpt.NewBaseKey(bdk); err != nil {
		return e, exit.With(exit.Usage, err, "")
	}
	e.request, e.host = dukpt.NewTransaction(), dukpt.NewHostTransaction()
	if err = errors.Join(e.base.Bind(e.host, ksn), e.beginTerminal(ksn)); err != nil {
		e.end()
	}
	return e, err
}

// beginTerminal loads a terminal and takes it to ksn. Nothing is saved: this terminal ends with the command.
func (e *ends) beginTerminal(ksn dukpt.KSN) error {
	unsaved := func(secret.Bytes) error { return nil }
	initial, err := e.base.Derive(ksn.KeyID())
	if err != nil {
		return err
	}
	if e.terminal, err = dukpt.NewTerminal(initial); err != nil {
		return err
	}
	if err := e.terminal.SkipTo(ksn, unsaved); err != nil {
		return err
	}
	if err := e.terminal.Reserve(1, unsaved); err != nil {
		return err
	}
	return e.terminal.Next(e.request)
}

func (e *ends) end() {
	e.host.End()
	e.request.End()
	if e.terminal != nil {
		e.terminal.Wipe()
	}
	e.base.Wipe()
}

func (e *ends) open(s dukpt.DataSpec, ct []byte) (secret.Bytes, error) {
	decrypt := e.host.DecryptData
	if s.Direction == dukpt.Response {
		decrypt = e.request.DecryptResponse
	}
	out, err := decrypt(nil, s, ct)
	defer secret.Wipe(out)
	return secret.From(out), err
}

// openSwipe opens in the first way that gives a card number.
func (d *decryption) openSwipe(e ends, ways []way, ct []byte) (way, secret.Bytes, error) {
	var refused error
	tried := 0
	for _, w := range ways {
		clear, err := e.open(w.spec, ct)
		switch {
		case errors.Is(err, dukpt.ErrVerify):
			tried++
			continue
		case err != nil:
			refused = cmp.Or(refused, err)
			continue
		}
		tried++
		if pan, err := pin.FindPAN(clear.Expose()); err == nil {
			pan.Wipe()
			return w, clear, nil
		}
		clear.Wipe()
	}
	switch {
	case tried == 0:
		return way{}, secret.Bytes{}, notOpened(refused)
	case d.profile != "auto":
		return way{}, secret.Bytes{}, exit.With(exit.Verification, fmt.Errorf("profile %s gives no card data", d.profile),
			"try --profile auto; check the base key (its check value), the KSN, the padding and that the data is complete; --kind raw opens data without a card number")
	}
	return way{}, secret.Bytes{}, exit.With(exit.Verification, errors.New("no profile gives card data"),
		"check the base key (its check value), the KSN, the padding and that the data is complete")
}

// openRaw opens what need not hold a card number, in the one way that the caller names. Card data it refuses: who knows
// the shown digest of a card number finds the number.
func (d *decryption) openRaw(e ends, ways []way, ct []byte) (way, secret.Bytes, error) {
	if d.profile == "auto" {
		return way{}, secret.Bytes{}, exit.With(exit.Usage, errors.New("--kind raw needs a named --profile: nothing tells which one fits"),
			"one of: "+profileNames())
	}
	clear, err := e.open(ways[0].spec, ct)
	if err != nil {
		return way{}, secret.Bytes{}, notOpened(err)
	}
	if pan, err := pin.FindPAN(clear.Expose()); err == nil {
		pan.Wipe()
		clear.Wipe()
		return way{}, secret.Bytes{}, exit.With(exit.Refused, errors.New("the data holds a card number"), "open it with --kind card")
	}
	return ways[0], clear, nil
}

// notOpened says why nothing was decrypted.
func notOpened(err error) error {
	switch {
	case errors.Is(err, dukpt.ErrVerify):
		return exit.With(exit.Verification, errors.New("the padding does not come off"),
			"another --padding, or another base key, KSN or profile")
	case errors.Is(err, dukpt.ErrStrength):
		return exit.With(exit.Usage, err, "a working key is no stronger than the base key: another --key-type")
	case errors.Is(err, dukpt.ErrUnsupported):
		return exit.With(exit.Usage, err, "see: latchkey dukpt decrypt --help")
	}
	return exit.With(exit.Usage, err, blocksHint+"; an IV has the length of one")
}

const blocksHint = "the data has the length of whole blocks: 8 bytes each for TDES, 16 for AES"

func showSwipe(c *console, o opened, clear secret.Bytes, reveal bool) error {
	pan, err := pin.FindPAN(clear.Expose())
	if err != nil {
		return err
	}
	o.MaskedPAN = pan.Masked()
	pan.Wipe()
	fields := append(o.fields(), field{"card number", o.MaskedPAN}, field{"bytes", o.Bytes})
	if reveal {
		o.Clear = printable(clear.Expose())
		fields = append(fields, field{"clear text", o.Clear})
	}
	return c.show(o, fields...)
}

func showRaw(c *console, o opened, clear secret.Bytes, reveal bool) error {
	sum := sha256.Sum256(clear.Expose())
	o.SHA256 = hex.EncodeToString(sum[:])
	fields := append(o.fields(), field{"bytes", o.Bytes}, field{"SHA-256", o.SHA256})
	if reveal {
		o.Clear = strings.ToUpper(hex.EncodeToString(clear.Expose()))
		fields = append(fields, field{"clear bytes", o.Clear})
	}
	return c.show(o, fields...)
}

// fields are those of both kinds.
func (o opened) fields() []field {
	fields := []field{{"KSN", o.KSN}, {"profile", o.Profile + ": " + aboutProfile(o.Profile)}, {"mode", o.Mode}}
	if o.Key != "" {
		fields = append(fields, field{"key type", o.Key})
	}
	return append(fields, field{"direction", o.Direction}, field{"padding", o.Padding}, field{"base key KCV", o.BaseKCV}, field{"kind", o.Kind})
}

// printable gives text as it is, and anything else as hexadecimal digits. Zero padding at the end is not shown.
func printable(b []byte) string {
	text := strings.TrimRight(string(b), "\x00")
	for _, r := range text {
		if r < ' ' || r > '~' {
			return strings.ToUpper(hex.EncodeToString(b))
		}
	}
	return text
}
