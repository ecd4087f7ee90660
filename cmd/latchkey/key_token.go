package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func (e *element) environmentFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.environment, "environment", "", "with --hsm: test or production, which never changes")
}

// generate makes a key in the token.
func (e *element) generate(ctx context.Context, ref keyset.KeyRef, a keys.Attributes) error {
	env, err := e.scope()
	if err != nil {
		return err
	}
	a.Exportability = keys.NonExportable
	return e.with(ctx, func(t *hsm.Token) error {
		info, err := t.Generate(ctx, ref, a, env)
		if errors.Is(err, dukpt.ErrUnsupported) {
			return exit.With(exit.Refused, err, "tokens make AES keys; see what this one can do: latchkey hsm probe")
		}
		if err != nil {
			return err
		}
		return showKey(e.c, info)
	})
}

func newKeyImport(c *console, f *folder) *cobra.Command {
	var name, algorithm, usage, parity, file string
	e, ceremony := &element{c: c}, new(loading)
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Put a key into a token: of a ceremony, or a clear test key",
		Long: `Import puts a key into a PKCS#11 token, where it stays; a TDES base key together with its C0 variant, from which half
of each initial key comes. It is read back, and asked for what it must refuse, before it counts.

With --ceremony the key comes in sealed components, under the approval of two custodians (latchkey key ceremony). The record
says which key it is and which token; each custodian gives the own passphrase, and what was loaded is appended to the record,
signed by them. This is the only way for keys of production; base keys of AES can be made in the token, too: latchkey key
generate --hsm.

Without, the whole key is clear in a file or on a screen: only keys of the environment test are taken.`,
		Example: "  latchkey key import --hsm \"$TOKEN\" --pin-file pin --ceremony bdk-1.ceremony --sealed-file bdk-1.anna --sealed-file bdk-1.bert\n" +
			"  latchkey key import --hsm 'pkcs11:token=acquirer?module-path=/usr/lib/softhsm/libsofthsm2.so' --pin-file pin \\\n" +
			"    --name alias/bdk-tdes --algorithm 2TDEA --environment test --key-file test.key",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("ceremony") {
				for _, flag := range []string{"name", "algorithm", "usage", "parity", "environment", "key-file"} {
					if cmd.Flags().Changed(flag) {
						return exit.With(exit.Usage, errors.New("--"+flag+" does not go with --ceremony"), "the record of the ceremony says it")
					}
				}
				return ceremony.load(cmd, c, f, e)
			}
			if len(ceremony.files)+len(ceremony.passFiles) > 0 {
				return exit.With(exit.Usage, errors.New("sealed components come with the record of their ceremony"), "give --ceremony")
			}
			ref, err := keyset.ParseKeyRef(name)
			if err != nil {
				return exit.With(exit.Usage, err, "a name is alias/ and 1 to 64 of A-Z a-z 0-9 / _ -; or give --ceremony")
			}
			a, err := keyAttributes(algorithm, usage)
			if err != nil {
				return err
			}
			a.Exportability = keys.NonExportable
			p, err := keys.ParseParity(parity)
			if err != nil {
				return exit.With(exit.Usage, err, "")
			}
			env, err := e.scope()
			if err != nil {
				return err
			}
			if env != keyset.Test {
				return exit.With(exit.Refused, errors.New("one person with a clear key makes no production key"),
					"make it in the token: latchkey key generate --hsm; or bring it in components: latchkey key ceremony")
			}
			k, err := readKey(c, file, a, p)
			if err != nil {
				return err
			}
			defer k.Wipe()
			return e.with(cmd.Context(), func(t *hsm.Token) error {
				info, err := t.Import(cmd.Context(), ref, k, env)
				if err != nil {
					return err
				}
				return showKey(c, info)
			})
		},
	}
	e.flags(cmd)
	e.environmentFlag(cmd)
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "", "name of the key: alias/…")
	fl.StringVar(&algorithm, "algorithm", "2TDEA", "2TDEA, 3TDEA, AES-128, AES-192 or AES-256")
	fl.StringVar(&usage, "usage", "B0", "B0, P0 or D0")
	fl.StringVar(&parity, "parity", "ignored", "of TDES: adjusted, required or ignored")
	fl.StringVar(&file, "key-file", "", "file with the digits; - for standard input; default: ask")
	ceremony.flags(cmd)
	required(cmd, "hsm")
	return cmd
}

// readKey reads a key as digits.
func readKey(c *console, file string, a keys.Attributes, p keys.Parity) (keys.Key, error) {
	raw, err := readHex(c, file, "--key-file", "key")
	if err != nil {
		return keys.Key{}, err
	}
	defer raw.Wipe()
	k, err := keys.ImportKey(a, p, raw.Expose())
	return k, exit.With(exit.Usage, err, "check algorithm and parity")
}
