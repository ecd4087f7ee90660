package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

func newDUKPT(c *console) *cobra.Command {
	return noun("dukpt", "Explain key serial numbers, find a reader's profile, open test swipes, check test keys",
		newExplain(c), newDerive(c), newDUKPTDecrypt(c))
}

// profile is how one maker's reader uses a DUKPT key for card data.
type profile struct {
	name, about string
	spec        dukpt.DataSpec
}

var profiles = []profile{
	{"magtek", "PIN variant (MagTek)", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataPINVariant}},
	{"idtech", "data variant with the one-way step (ID TECH)", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataOneWay}},
	{"verifone", "data variant with the one-way step (Verifone)", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataOneWay}},
	{"mask", "data variant without the one-way step", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataMask}},
	{"bare", "transaction key without any variant", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataBareKey}},
	{"aes", "AES-128 data key of the terminal (usage 3000)", dukpt.DataSpec{Direction: dukpt.Request, Key: dukpt.KeyAES128}},
	{"aes-both", "AES-128 data key for both ways (usage 3002)", dukpt.DataSpec{Direction: dukpt.Both, Key: dukpt.KeyAES128}},
}

func profileNames() string {
	names := make([]string, 0, len(profiles)+1)
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return strings.Join(append(names, "auto"), "|")
}

type opened struct {
	KSN       string `json:"ksn"`
	Profile   string `json:"profile"`
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

func newDUKPTDecrypt(c *console) *cobra.Command {
	var bdkFile, ksnText, name, kind, cipherText, iv string
	var reveal bool
	cmd := &cobra.Command{
		Use:   "decrypt",
		Short: "Open one swipe of a reader under a test base key",
		Long: `Decrypt opens card data that a reader encrypted in CBC mode under a DUKPT key, to find out whether
a base key, a KSN and a maker's profile belong together. It shows the card number masked; the
clear text only with --reveal.

Data that holds no card number, such as what a reader says about the magnetic stripe itself, is opened
with --kind raw and a named profile: it shows the length and the SHA-256 digest, and the bytes only with
--reveal. Nothing tells then whether key, KSN and profile belong together: compare the digest.

Profiles:
` + profileHelp() + `  auto       tries all of them and says which one fits

This is a bench tool: it holds the base key in memory and claims nothing. Production data goes
through latchkey-decryptd.`,
		Example: "  latchkey dukpt decrypt --bdk-file bdk.hex --ksn FFFF9876543210E00008 --profile magtek --data C25C1D11…",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			ksn, err := parseKSN(ksnText)
			if err != nil {
				return err
			}
			if kind != kindCard && kind != kindRaw {
				return exit.Errorf(exit.Usage, "--kind %q is neither %s nor %s", kind, kindCard, kindRaw)
			}
			ct, err := hex.DecodeString(cipherText)
			if err != nil || len(ct) == 0 {
				return exit.Errorf(exit.Usage, "--data is not an even number of hexadecimal digits")
			}
			var vector []byte
			if iv != "" {
				if vector, err = hex.DecodeString(iv); err != nil {
					return exit.Errorf(exit.Usage, "--iv is not hexadecimal")
				}
			}
			bdk, err := readHexKey(c, bdkFile, ksn.Scheme())
			if err != nil {
				return err
			}
			defer bdk.Wipe()
			open := openSwipe
			if kind == kindRaw {
				open = openRaw
			}
			p, clear, err := open(bdk, ksn, name, vector, ct)
			if err != nil {
				return err
			}
			defer clear.Wipe()
			o := opened{KSN: ksn.String(), Profile: p.name, BaseKCV: bdk.KCV().String(), Kind: kind, Bytes: clear.Len()}
			if kind == kindRaw {
				return showRaw(c, o, p, clear, reveal)
			}
			return showSwipe(c, o, p, clear, reveal)
		},
	}
	f := cmd.Flags()
	f.StringVar(&bdkFile, "bdk-file", "", "file with the base derivation key in hexadecimal digits (- for standard input)")
	f.StringVar(&ksnText, "ksn", "", "key serial number sent with the data")
	f.StringVar(&name, "profile", "auto", "how the reader uses the key: "+profileNames())
	f.StringVar(&kind, "kind", kindCard, "what the data is: card (it holds a card number) or raw (it need not)")
	f.StringVar(&cipherText, "data", "", "the encrypted data in hexadecimal digits")
	f.StringVar(&iv, "iv", "", "initialization vector in hexadecimal digits (default all zeros)")
	f.BoolVar(&reveal, "reveal", false, "show the clear text: card data of a real customer must not be shown")
	required(cmd, "ksn", "data")
	return cmd
}

func profileHelp() string {
	var b strings.Builder
	for _, p := range profiles {
		fmt.Fprintf(&b, "  %-10s %s\n", p.name, p.about)
	}
	return b.String()
}

func readHexKey(c *console, path string, scheme dukpt.Scheme) (keys.Key, error) {
	raw, err := readHex(c, path, "--bdk-file", "base derivation key")
	if err != nil {
		return keys.Key{}, err
	}
	defer raw.Wipe()
	algorithm := keys.TDES2
	if scheme == dukpt.AES {
		switch raw.Len() {
		case 24:
			algorithm = keys.AES192
		case 32:
			algorithm = keys.AES256
		default:
			algorithm = keys.AES128
		}
	}
	key, err := keys.NewKey(keys.Attributes{
		Algorithm: algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, raw.Expose())
	return key, exit.With(exit.Usage, err, "a TDES base key has 32 hexadecimal digits, an AES one 32, 48 or 64")
}

// named returns the profile of a name, or all for auto, as far as they are of the scheme.
func named(name string, scheme dukpt.Scheme) ([]profile, error) {
	var out []profile
	for _, p := range profiles {
		if (name == p.name || name == "auto") && (p.spec.Key != 0) == (scheme == dukpt.AES) {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, exit.With(exit.Usage,
			fmt.Errorf("profile %q does not exist for a %s KSN", name, scheme), "one of: "+profileNames())
	}
	return out, nil
}

func openSwipe(bdk keys.Key, ksn dukpt.KSN, name string, iv, ct []byte) (profile, secret.Bytes, error) {
	tried, err := named(name, ksn.Scheme())
	if err != nil {
		return profile{}, secret.Bytes{}, err
	}
	for _, p := range tried {
		clear, err := decryptWith(bdk, ksn, p, iv, ct)
		if err != nil {
			return profile{}, secret.Bytes{}, err
		}
		pan, err := pin.FindPAN(clear.Expose())
		if err == nil {
			pan.Wipe()
			return p, clear, nil
		}
		clear.Wipe()
	}
	if name != "auto" {
		return profile{}, secret.Bytes{}, exit.With(exit.Verification, fmt.Errorf("profile %s gives no card data", name),
			"try --profile auto; check the base key (its check value), the KSN and that the data is complete; --kind raw opens data without a card number")
	}
	return profile{}, secret.Bytes{}, exit.With(exit.Verification, errors.New("no profile gives card data"),
		"check the base key (its check value), the KSN and that the data is complete")
}

// openRaw opens what need not hold a card number, in the one way that the caller names. Card data it refuses: who knows
// the shown digest of a card number finds the number.
func openRaw(bdk keys.Key, ksn dukpt.KSN, name string, iv, ct []byte) (profile, secret.Bytes, error) {
	if name == "auto" {
		return profile{}, secret.Bytes{}, exit.With(exit.Usage, errors.New("--kind raw needs a named --profile: nothing tells which one fits"),
			"one of: "+profileNames())
	}
	tried, err := named(name, ksn.Scheme())
	if err != nil {
		return profile{}, secret.Bytes{}, err
	}
	clear, err := decryptWith(bdk, ksn, tried[0], iv, ct)
	if err != nil {
		return profile{}, secret.Bytes{}, err
	}
	if pan, err := pin.FindPAN(clear.Expose()); err == nil {
		pan.Wipe()
		clear.Wipe()
		return profile{}, secret.Bytes{}, exit.With(exit.Refused, errors.New("the data holds a card number"), "open it with --kind card")
	}
	return tried[0], clear, nil
}

func decryptWith(bdk keys.Key, ksn dukpt.KSN, p profile, iv, ct []byte) (secret.Bytes, error) {
	base, err := dukpt.NewBaseKey(bdk)
	if err != nil {
		return secret.Bytes{}, exit.With(exit.Usage, err, "")
	}
	defer base.Wipe()
	tx, err := base.Begin(ksn)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer tx.End()
	spec := p.spec
	spec.Mode, spec.IV = dukpt.CBC, iv
	out, err := tx.DecryptData(nil, spec, ct)
	if err != nil {
		return secret.Bytes{}, exit.With(exit.Usage, err, blocksHint)
	}
	defer secret.Wipe(out)
	return secret.From(out), nil
}

const blocksHint = "the data has the length of whole blocks: 8 bytes each for TDES, 16 for AES"

func showSwipe(c *console, o opened, p profile, clear secret.Bytes, reveal bool) error {
	pan, err := pin.FindPAN(clear.Expose())
	if err != nil {
		return err
	}
	o.MaskedPAN = pan.Masked()
	pan.Wipe()
	fields := append(o.fields(p), field{"card number", o.MaskedPAN}, field{"bytes", o.Bytes})
	if reveal {
		o.Clear = printable(clear.Expose())
		fields = append(fields, field{"clear text", o.Clear})
	}
	return c.show(o, fields...)
}

func showRaw(c *console, o opened, p profile, clear secret.Bytes, reveal bool) error {
	sum := sha256.Sum256(clear.Expose())
	o.SHA256 = hex.EncodeToString(sum[:])
	fields := append(o.fields(p), field{"bytes", o.Bytes}, field{"SHA-256", o.SHA256})
	if reveal {
		o.Clear = strings.ToUpper(hex.EncodeToString(clear.Expose()))
		fields = append(fields, field{"clear bytes", o.Clear})
	}
	return c.show(o, fields...)
}

// fields are those of both kinds.
func (o opened) fields(p profile) []field {
	return []field{{"KSN", o.KSN}, {"profile", p.name + ": " + p.about}, {"base key KCV", o.BaseKCV}, {"kind", o.Kind}}
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
