package main

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
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

// curves are those of key pairs, by their names.
var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// curveEd25519 is for keys of audit checkpoints.
const curveEd25519 = "Ed25519"

// madePair is what key pair shows.
type madePair struct {
	Name      string `json:"name"`
	Curve     string `json:"curve"`
	URI       string `json:"uri"`       // for members of configurations
	PublicKey string `json:"publicKey"` // SubjectPublicKeyInfo, PEM
}

func newKeyPair(c *console) *cobra.Command {
	var name, curve string
	e := &element{c: c}
	cmd := &cobra.Command{
		Use:   "pair",
		Short: "Make a key pair in a token, for signatures",
		Long: `Pair makes a key pair in a PKCS#11 token, of ECDSA, or of Ed25519 for audit checkpoints. The private key signs, and never
leaves; it is read back, and asked for what it must refuse, before it counts. The configuration of a service names it, in place
of a sealed file, by the URI that is shown: docs/hsm.md.`,
		Example: "  latchkey key pair --hsm 'pkcs11:token=keyd?module-path=/usr/lib/softhsm/libsofthsm2.so' --pin-file pin --name kdh-signer",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			on, ok := curves[curve]
			if !ok && curve != curveEd25519 {
				return exit.With(exit.Usage, fmt.Errorf("curve %q is not known", curve), "one of P-256, P-384, P-521, Ed25519")
			}
			return e.with(cmd.Context(), func(t *hsm.Token) error {
				generate := func() (crypto.Signer, error) { return t.GenerateSigner(cmd.Context(), name, on) }
				if curve == curveEd25519 {
					generate = func() (crypto.Signer, error) { return t.GenerateEd25519(cmd.Context(), name) }
				}
				signer, err := generate()
				if err != nil {
					err, _ = exit.Explain(err, exit.When(dukpt.ErrUnsupported, exit.Refused, "the token makes no such key pairs: take another curve"))
					return err
				}
				der, err := x509.MarshalPKIXPublicKey(signer.Public())
				if err != nil {
					return err
				}
				m := madePair{name, curve, hsm.KeyURI(name).String(), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
				return c.show(m, field{"name", m.Name}, field{"curve", m.Curve}, field{"uri", m.URI}, field{"public key", "\n" + m.PublicKey})
			})
		},
	}
	e.flags(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the key pair: CKA_LABEL of both halves")
	cmd.Flags().StringVar(&curve, "curve", "P-256", "P-256, P-384, P-521, or Ed25519 for audit checkpoints")
	required(cmd, "hsm", "name")
	return cmd
}

func newKeyImport(c *console, f *folder) *cobra.Command {
	var name, algorithm, usage, mode, parity, file string
	var distribution bool
	e, ceremony := &element{c: c}, new(loading)
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Put a key into a token or the keyring: of a ceremony, or a clear test key",
		Long: `Without --hsm Import puts a clear test key into the keyring of the deployment, which has to be one for tests.

With it Import puts a key into a PKCS#11 token, where it stays; a TDES base key together with its C0 variant, from which half
of each initial key comes. It is read back, and asked for what it must refuse, before it counts.

With --ceremony the key comes in sealed components, under the approval of two custodians (latchkey key ceremony). The record
says which key it is, which token, and for which host; each custodian gives the own passphrase, and what was loaded is appended to the record,
signed by them. This is the only way for keys of production; base keys of AES can be made in the token, too: latchkey key
generate --hsm.

A base key is in the tokens of two hosts, under one name, and each for its own work: latchkey-decryptd works on
transactions with it, latchkey-keyd (--distribution) gives initial keys to terminals. Neither does what the other does.

Without a ceremony the whole key is clear in a file or on a screen: only keys of the environment test are taken.`,
		Example: "  latchkey key import --hsm \"$TOKEN\" --pin-file pin --ceremony bdk-1.ceremony --sealed-file bdk-1.anna --sealed-file bdk-1.bert\n" +
			"  latchkey key import --hsm 'pkcs11:token=acquirer?module-path=/usr/lib/softhsm/libsofthsm2.so' --pin-file pin \\\n" +
			"    --name alias/bdk-tdes --algorithm 2TDEA --environment test --key-file test.key",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("ceremony") {
				for _, flag := range []string{"name", "algorithm", "usage", "mode", "distribution", "parity", "environment", "key-file"} {
					if cmd.Flags().Changed(flag) {
						return exit.With(exit.Usage, errors.New("--"+flag+" does not go with --ceremony"), "the record of the ceremony says it")
					}
				}
				if e.uri == "" {
					return exit.With(exit.Usage, errors.New("--hsm is missing"), "a ceremony loads its key into the token that its record names")
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
			a, err := keyAttributes(algorithm, usage, mode)
			if err != nil {
				return err
			}
			if distribution && a.Usage != keys.UsageBDK {
				return exit.With(exit.Usage, fmt.Errorf("a key-distribution host has base keys, not usage %s", a.Usage), "leave --distribution out, or say --usage B0")
			}
			a.Exportability = keys.NonExportable
			p, err := keys.ParseParity(parity)
			if err != nil {
				return exit.With(exit.Usage, err, "")
			}
			if e.uri == "" {
				for _, flag := range []string{"pin-file", "environment"} {
					if cmd.Flags().Changed(flag) {
						return exit.With(exit.Usage, errors.New("--hsm is missing"), "--"+flag+" is about a token; the keyring is of the environment of its deployment")
					}
				}
				return importKept(c, f, ref, a, file, p, distribution)
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
				load := t.Import
				if distribution {
					load = t.Distribution().Import
				}
				info, err := load(cmd.Context(), ref, k, env)
				if err != nil {
					return err
				}
				return showKey(c, info)
			})
		},
	}
	e.flags(cmd)
	e.environmentFlag(cmd)
	e.carryFlag(cmd)
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "", "name of the key: alias/…")
	fl.StringVar(&algorithm, "algorithm", "2TDEA", "2TDEA, 3TDEA, AES-128, AES-192 or AES-256")
	fl.StringVar(&usage, "usage", "B0", keyUsages+"; in a token B0, P0 or D0")
	fl.StringVar(&mode, "mode", "", keyModes)
	fl.BoolVar(&distribution, "distribution", false, "for latchkey-keyd: initial keys come out of it, and no transaction is worked on; for good")
	fl.StringVar(&parity, "parity", "ignored", "of TDES: adjusted, required or ignored")
	fl.StringVar(&file, "key-file", "", "file with the digits; - for standard input; default: ask")
	ceremony.flags(cmd)
	return cmd
}

// importKept puts a clear key into the keyring.
func importKept(c *console, f *folder, ref keyset.KeyRef, a keys.Attributes, file string, p keys.Parity, distribution bool) error {
	if distribution {
		return exit.With(exit.Usage, errors.New("--distribution is about keys in a token"), "in the keyring a base key is for both")
	}
	return f.with(func(d *deploy.Deployment) error {
		if d.Config().Environment != keyset.Test {
			return exit.With(exit.Refused, errors.New("one person with a clear key makes no production key"),
				"make it: latchkey key generate; or bring it in components: latchkey key components")
		}
		k, err := readKey(c, file, a, p)
		if err != nil {
			return err
		}
		defer k.Wipe()
		ring, err := d.Keyring()
		if err != nil {
			return err
		}
		info, err := ring.Import(ref, k, keyset.Test)
		if err != nil {
			return notKept(err)
		}
		return showKey(c, info)
	})
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
