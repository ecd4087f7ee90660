package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

type fenced struct {
	Counters int    `json:"counters"`
	Ordinals uint32 `json:"ordinals"`
	Lost     string `json:"lost,omitempty"`
	SetAside string `json:"checkpoint-set-aside,omitempty"`
}

func newStoreFence(c *console) *cobra.Command {
	var config string
	var req nodedecrypt.FenceRequest
	cmd := &cobra.Command{
		Use:   "fence",
		Short: "Close what a database that was restored, or lost to a fail-over, may have released",
		Long: `Fence is for a database that may lack claims that were answered: one that was restored from a
backup, or a standby that commits did not wait for. It moves the floor of every counter, also of those
that the database knows nothing about, beyond what may have been released.

--ordinals is how many keys one terminal can have used since the last message of it that the copy holds: sales,
sign-ins and resends, those that waited in its queue at that time, and what it skips when it starts or is told
to go on further ahead. Too many costs keys, too few releases one twice. Terminals follow their host no further than J,
and fences add up for keys that are new to the database: all of them together have fewer ordinals than the smallest J
of the key sets (10000 unless one says another).

Behind the fence nothing new is released, ever; what was claimed before is answered as before. Terminals
are told the floor and go on beyond it by themselves. Messages that still wait at terminals, made before,
answer KsnFenced and go to the terminals' exception lists, where a person sees them.

Stop every decryption service on the database first, also those that may still reach another server. A
database that lacks what its checkpoint-file vouches for, or a PostgreSQL that goes on in another history than
the one before, is refused: look for a newer copy first. With --accept-loss the fence is put, the audit log says what was lost, and the
checkpoint is set aside: keep it. Each further instance whose checkpoint does not fit is let in with
--fenced --accept-loss, which puts no second fence.`,
		Example: `  latchkey store fence --config pos/decryptd.yaml --ordinals 500
  latchkey store fence --config pos/decryptd.yaml --ordinals 500 --accept-loss
  latchkey store fence --config pos/decryptd-2.yaml --fenced --accept-loss`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Fenced && !req.Accept {
				return exit.Errorf(exit.Usage, "--fenced is for a loss that is accepted: add --accept-loss")
			}
			if err := checkOrdinals(req.Ordinals, req.Fenced); err != nil {
				return err
			}
			conf, err := nodedecrypt.LoadConfig(config)
			if err != nil {
				return exit.With(exit.Usage, err, "name the configuration of latchkey-decryptd with --config")
			}
			done, err := nodedecrypt.Fence(cmd.Context(), conf, req, slog.New(slog.DiscardHandler))
			if err != nil {
				return explainFence(err)
			}
			return c.show(fenced{done.Known, req.Ordinals, done.Lost, done.SetAside},
				field{"counters known", done.Known}, field{"ordinals", req.Ordinals}, field{"lost", done.Lost}, field{"checkpoint set aside", done.SetAside})
		},
	}
	cmd.Flags().StringVar(&config, "config", "decryptd.yaml", "configuration of latchkey-decryptd")
	cmd.Flags().Uint32Var(&req.Ordinals, "ordinals", 0, "how far beyond all that is known of a counter (required but with --fenced)")
	cmd.Flags().BoolVar(&req.Accept, "accept-loss", false, "the database lacks what its checkpoint vouches for, and there is no newer one")
	cmd.Flags().BoolVar(&req.Fenced, "fenced", false, "the fence is there, put by another instance or before: only set the checkpoint aside")
	return cmd
}

// checkOrdinals refuses a fence that closes nothing, and one where there is one.
func checkOrdinals(n uint32, fenced bool) error {
	if fenced != (n == 0) {
		return exit.Errorf(exit.Usage, "--ordinals is %d, want more keys than one terminal can have used since the copy, and none with --fenced", n)
	}
	return nil
}

// explainFence gives errors of either database their exit codes.
func explainFence(err error) error {
	const newer = "look for a newer copy; if there is none, --accept-loss"
	explained, known := exit.Explain(err,
		exit.When(nodedecrypt.ErrOrdinals, exit.Usage, "terminals follow their host no further than J of their key set: see latchkey keyset show"),
		exit.When(sqlite.ErrMissing, exit.NotFound, "restore the database first"),
		exit.When(sqlite.ErrLocked, exit.Refused, "stop latchkey-decryptd first"),
		exit.When(sqlite.ErrNewer, exit.Refused, "use the release that made the database, or a newer one"),
		exit.When(sqlite.ErrBehind, exit.Verification, newer),
		exit.When(sqlite.ErrDamaged, exit.Verification, "keep the file, and restore another copy"))
	if known {
		return explained
	}
	return explainPostgres(err)
}
