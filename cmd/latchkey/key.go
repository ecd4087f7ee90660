package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newKey(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("key", "Keys of the host: generate, import, list, rotate, rewrap, components, ceremonies, check values, compromise",
		newKeyGenerate(c, f), newKeyImport(c, f), newKeyPair(c), newKeyList(c, f), newKeyRotate(c, f), newKeyRewrap(c, f), newComponents(c, f), newCeremony(c, f),
		newKeyKCV(c), newKeyCompromise(c))
	f.flags(cmd)
	return cmd
}

// modes says what each usage that can be generated may be used for.
var modes = map[keys.Usage]keys.Mode{
	keys.UsageBDK:  keys.ModeDerive,
	keys.UsagePIN:  keys.ModeEncrypt,
	keys.UsageData: keys.ModeBoth,

	keys.UsageMACCBC:    keys.ModeGenVerify,
	keys.UsageMACRetail: keys.ModeGenVerify,
	keys.UsageMACCMAC:   keys.ModeGenVerify,
	keys.UsageHMAC:      keys.ModeGenVerify,
	keys.UsageKEK:       keys.ModeBoth,
	keys.UsageKBPK:      keys.ModeBoth,
}

// The texts about usages and modes of the commands that make keys.
const (
	keyUsages = "B0, P0, D0, M1, M3, M6, M7, K0 or K1"
	keyModes  = "mode of use of X9.143: B both, E encrypt, D decrypt; of MACs C both, G generate, V verify; default: that of the usage"
)

type listedKey struct {
	Name        string `json:"name"`
	ID          string `json:"id"`
	Usage       string `json:"usage"`
	Algorithm   string `json:"algorithm"`
	KCV         string `json:"kcv"`
	Version     uint32 `json:"version"`
	Environment string `json:"environment"`
	KeyMode     string `json:"keyMode"`
	Fingerprint string `json:"fingerprint"` // not the same in a token and in the keyring
}

func listKey(i engine.KeyInfo) listedKey {
	return listedKey{
		Name: i.Ref.String(), ID: i.ID.String(), Usage: string(i.Attributes.Usage), Algorithm: i.Attributes.Algorithm.String(),
		KCV: i.KCV.String(), Version: uint32(i.Version), Environment: i.Labels.Environment.String(), KeyMode: i.Labels.KeyMode.String(),
		Fingerprint: i.Fingerprint.String(),
	}
}

func newKeyGenerate(c *console, f *folder) *cobra.Command {
	var name, algorithm, usage, mode string
	e := &element{c: c}
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Draw a key at random and keep it as a key block, or make it in a token",
		Long: `Generate draws a key from the system's random source and stores it as an ANSI X9.143 key block under
the local master key. Its environment is that of the deployment and never changes.

With --hsm the key is made in a PKCS#11 token, stays there, and is AES; --environment says what it is for. It is
read back, and asked for what it must refuse, before it counts.

Usages: B0 base derivation key (2TDEA, AES-128, AES-192, AES-256)
        P0 zone PIN key, to translate PINs to; with --mode B also from it, with D only from it
        D0 data key
        M1, M3 for MACs by algorithms 1 and 3 of ISO 9797-1, M6 CMAC, M7 HMAC
        K0, K1 key encryption key, which other keys come under in key blocks
In a token there are B0, P0 and D0. Which keys a host may use stands in decryptd.yaml (docs/aws.md).`,
		Example: "  latchkey key generate --name alias/bdk-1 --algorithm AES-128 --usage B0",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ref, err := keyset.ParseKeyRef(name)
			if err != nil {
				return exit.With(exit.Usage, err, "a name is alias/ and 1 to 64 of A-Z a-z 0-9 / _ -")
			}
			a, err := keyAttributes(algorithm, usage, mode)
			if err != nil {
				return err
			}
			if e.uri != "" {
				return e.generate(cmd.Context(), ref, a)
			}
			return f.with(func(d *deploy.Deployment) error {
				ring, err := d.Keyring()
				if err != nil {
					return err
				}
				info, err := ring.Generate(ref, a, d.Config().Environment)
				if err != nil {
					return notKept(err)
				}
				return showKey(c, info)
			})
		},
	}
	e.flags(cmd)
	e.environmentFlag(cmd)
	e.carryFlag(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the key: alias/…")
	cmd.Flags().StringVar(&algorithm, "algorithm", "AES-128", "2TDEA, 3TDEA, AES-128, AES-192 or AES-256; HMAC-128, HMAC-192 or HMAC-256 of M7")
	cmd.Flags().StringVar(&usage, "usage", "B0", keyUsages)
	cmd.Flags().StringVar(&mode, "mode", "", keyModes)
	required(cmd, "name")
	return cmd
}

func showKey(c *console, info engine.KeyInfo) error {
	k := listKey(info)
	return c.show(k, field{"name", k.Name}, field{"id", k.ID}, field{"usage", k.Usage}, field{"algorithm", k.Algorithm},
		field{"KCV", k.KCV}, field{"environment", k.Environment}, field{"key mode", k.KeyMode})
}

func keyAttributes(algorithm, usage, letter string) (keys.Attributes, error) {
	alg, err := keys.ParseAlgorithm(algorithm)
	if err != nil {
		return keys.Attributes{}, exit.With(exit.Usage, err, "one of 2TDEA, 3TDEA, AES-128, AES-192, AES-256")
	}
	mode, ok := modes[keys.Usage(usage)]
	if !ok {
		return keys.Attributes{}, exit.With(exit.Usage, fmt.Errorf("usage %q is not generated here", usage), keyUsages)
	}
	if letter != "" {
		if len(letter) != 1 {
			return keys.Attributes{}, exit.With(exit.Usage, errors.New("a mode of use is one letter"), keyModes)
		}
		if mode, err = keys.ParseMode(letter[0]); err != nil {
			return keys.Attributes{}, exit.With(exit.Usage, err, keyModes)
		}
	}
	a := keys.Attributes{Algorithm: alg, Usage: keys.Usage(usage), Mode: mode, Exportability: keys.Exportable}
	return a, exit.With(exit.Usage, a.Validate(), "")
}

func newKeyList(c *console, f *folder) *cobra.Command {
	e := &element{c: c}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys of the host, or those in a token, with their check values",
		Args:  arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if e.uri != "" {
				return e.with(cmd.Context(), func(t *hsm.Token) error {
					infos, err := t.Keys(cmd.Context())
					if err != nil {
						return err
					}
					return listKeys(c, infos)
				})
			}
			return f.with(func(d *deploy.Deployment) error {
				ring, err := d.Keyring()
				if err != nil {
					return err
				}
				return listKeys(c, ring.List())
			})
		},
	}
	e.flags(cmd)
	return cmd
}

func listKeys(c *console, infos []engine.KeyInfo) error {
	list := []listedKey{}
	var rows [][]string
	for _, info := range infos {
		k := listKey(info)
		list = append(list, k)
		rows = append(rows, []string{k.Name, k.ID, k.Usage, k.Algorithm, k.KCV, fmt.Sprint(k.Version), k.Environment, k.KeyMode})
	}
	return c.list(list, []string{"NAME", "ID", "USAGE", "ALGORITHM", "KCV", "VERSION", "ENVIRONMENT", "KEY MODE"}, rows)
}

// listedKCV is what kcv says.
type listedKCV struct {
	Algorithm   string   `json:"algorithm"`
	CheckValues []string `json:"checkValues"`
}

func newKeyKCV(c *console) *cobra.Command {
	var file, algorithm string
	cmd := &cobra.Command{
		Use:   "kcv",
		Short: "Compute the check values of a key or component",
		Long: `Kcv reads a key or a component as hexadecimal digits and shows its check values of all kinds, to find out which
of them another system shows (ANSI X9.24-1, annex A):
  legacy      first 3 bytes of an encrypted block of zeros: TDES, and AES in older systems
  cmac        first 5 bytes of the CMAC of a block of zeros: AES, and TDES in newer systems
  cmac-short  first 3 bytes of the same, as AWS Payment Cryptography shows it
  hmac        first 3 bytes of the HMAC-SHA-256 of nothing: HMAC keys

The check values are public; the key is not, and is not shown.`,
		Example: "  latchkey key kcv --algorithm 2TDEA --key-file test.key",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			a, err := keys.ParseAlgorithm(algorithm)
			if err != nil {
				return exit.With(exit.Usage, err, "one of 2TDEA, 3TDEA, AES-128, AES-192, AES-256, HMAC-128, HMAC-192, HMAC-256")
			}
			text, err := c.secret(file, "--key-file", "key")
			if err != nil {
				return err
			}
			defer text.Wipe()
			part, err := keys.ParseComponent(a, text.Expose()) // unlike a key, it may have any bits but zeros
			if err != nil {
				return componentRefused(err)
			}
			defer part.Wipe()
			values, err := checkValues(a, part)
			if err != nil {
				return err
			}
			l := listedKCV{Algorithm: a.String(), CheckValues: texts(values)}
			fields := []field{{"algorithm", l.Algorithm}}
			for _, v := range values {
				fields = append(fields, field{v.Kind.String(), v.KCV})
			}
			return c.show(l, fields...)
		},
	}
	cmd.Flags().StringVar(&file, "key-file", "", "file with the digits; - for standard input; default: ask")
	cmd.Flags().StringVar(&algorithm, "algorithm", "AES-128", "2TDEA, 3TDEA, AES-128, AES-192, AES-256, HMAC-128, HMAC-192 or HMAC-256")
	return cmd
}
