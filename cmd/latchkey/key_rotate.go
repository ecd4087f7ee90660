package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newKeyRotate(c *console, f *folder) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Draw the next version of a zone, data, MAC or key encryption key",
		Long: `Rotate draws a key of the same kind at random and makes it the next version of a name. The name means the new
version from then on; running services take it in within a second. The old version keeps its id, and what was
released under it is answered under it again.

Who is to have the new key gets it as a key block, or as components: see latchkey keyblock and latchkey key
components. Base derivation keys (usage B0) do not rotate: terminals hold what was derived from them. They get
a successor, and terminals rekey to that: see latchkey keyset create and latchkey terminal rekey.`,
		Example: "  latchkey key rotate --name alias/zone-1",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			ref, err := keyset.ParseKeyRef(name)
			if err != nil {
				return exit.With(exit.Usage, err, "a name is alias/ and 1 to 64 of A-Z a-z 0-9 / _ -")
			}
			return f.with(func(d *deploy.Deployment) error {
				ring, err := d.Keyring()
				if err != nil {
					return err
				}
				info, err := ring.Rotate(ref)
				switch {
				case errors.Is(err, engine.ErrKeyNotFound):
					return exit.With(exit.Refused, err, "see latchkey key list")
				case errors.Is(err, engine.ErrUsage):
					return exit.With(exit.Refused, err, "base keys get a successor: see latchkey keyset create and latchkey terminal rekey")
				case err != nil:
					return notKept(err)
				}
				k := listKey(info)
				return c.show(k, field{"name", k.Name}, field{"id", k.ID}, field{"version", fmt.Sprint(k.Version)}, field{"usage", k.Usage},
					field{"algorithm", k.Algorithm}, field{"KCV", k.KCV}, field{"environment", k.Environment})
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the key: alias/…")
	required(cmd, "name")
	return cmd
}

// rewrapped is what rewrap says.
type rewrapped struct {
	Keys    int `json:"keys"`
	Secrets int `json:"secrets"`
}

func newKeyRewrap(c *console, f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "rewrap",
		Short: "Replace the local master key, which every key of the host is under",
		Long: `Rewrap draws another local master key, seals it under the passphrase, and wraps every key and every secret of
the keyring under that. Names, ids, versions, check values and fingerprints stay, and so does the passphrase.

Run it when the old local master key may be known, or when its time is over. If it is interrupted the keyring is
whole, and rewrap goes on where it was when it is run again. Services that run go on with the keys that they
have, and say that the local master key was replaced: start them anew, one after the other.

Files of before, such as backups, still open with the passphrase, and give up all keys in them: destroy them.
Keys in tokens are not under the local master key.`,
		Example: "  latchkey key rewrap\n  systemctl restart latchkey-decryptd",
		Args:    arguments(),
		RunE: func(*cobra.Command, []string) error {
			return f.with(func(d *deploy.Deployment) error {
				b := newBar(c.stderr, "wrapping")
				done := 0
				err := d.Rewrap(func(n, of int) {
					done = n
					b.show(n, of)
				})
				b.end()
				if errors.Is(err, keyring.ErrDamaged) {
					return exit.With(exit.Verification, err, "put the file back from a backup; nothing was replaced")
				}
				if err != nil {
					return err
				}
				ring, err := d.Keyring()
				if err != nil {
					return err
				}
				r := rewrapped{Keys: len(ring.List())}
				r.Secrets = done - r.Keys
				return c.show(r, field{"keys wrapped", fmt.Sprint(r.Keys)}, field{"secrets wrapped", fmt.Sprint(r.Secrets)},
					field{"next", "start the services anew, and destroy backups of before"})
			})
		},
	}
}
