package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/exit"
)

// benchFigure is one row of bench. Rates are transactions a second.
type benchFigure struct {
	Algorithm  string  `json:"algorithm"`
	KeyMode    string  `json:"keyMode"`
	OneBits    int     `json:"oneBits"`
	Cached     bool    `json:"cached"`
	Ours       float64 `json:"ours"`
	Software   float64 `json:"software"`
	Floor      float64 `json:"floor"`
	ToSoftware float64 `json:"oursToSoftware"`
	ToFloor    float64 `json:"oursToFloor"`
}

// maxTurn bounds how long one turn of bench may be: a command that runs for hours by mistake keeps a session of the token.
const maxTurn = 10 * time.Second

func newHSMBench(c *console) *cobra.Command {
	e := &element{c: c}
	var turn time.Duration
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure transactions a second, as ratios to software and to the bare calls",
		Long: `Bench makes MACs under the keys of transactions: in the token, by software with the base key in memory, and by the calls
of PKCS#11 alone that the token cannot be spared (floor). They take turns, five each, and the median counts. Its keys are
random and live as long as its session; no key of the token is used. One-bits are those of the transaction counter: the
more, the longer the way to the key, but for the cache. Ratios hold from one machine to another, rates do not.`,
		Example: "  latchkey hsm bench --hsm 'pkcs11:token=acquirer?module-path=/usr/lib/softhsm/libsofthsm2.so' --pin-file pin",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if turn <= 0 || turn > maxTurn {
				return exit.With(exit.Usage, errors.New("--turn is out of range"), fmt.Sprintf("choose one up to %v, as in: --turn 50ms", maxTurn))
			}
			return e.with(cmd.Context(), func(t *hsm.Token) error {
				all, err := t.Bench(cmd.Context(), turn, func(f hsm.Figure) {
					c.note("measured: %v, %v, %d one-bits, cache %s", f.Algorithm, f.KeyMode, f.OneBits, onOff(f))
				})
				if err != nil {
					return err
				}
				return showBench(c, all)
			})
		},
	}
	e.flags(cmd)
	cmd.Flags().DurationVar(&turn, "turn", 50*time.Millisecond, "how long one turn is; there are fifteen for each row")
	required(cmd, "hsm")
	return cmd
}

// onOff says whether a figure is with the cache.
func onOff(f hsm.Figure) string {
	if f.Cached {
		return "on"
	}
	return "off"
}

func showBench(c *console, all []hsm.Figure) error {
	list := []benchFigure{}
	var rows [][]string
	for _, f := range all {
		b := benchFigure{
			Algorithm: f.Algorithm.String(), KeyMode: f.KeyMode.String(), OneBits: f.OneBits, Cached: f.Cached,
			Ours: f.Ours, Software: f.Software, Floor: f.Floor, ToSoftware: f.Ours / f.Software, ToFloor: f.Ours / f.Floor,
		}
		list = append(list, b)
		rows = append(rows, []string{
			b.Algorithm, b.KeyMode, fmt.Sprint(b.OneBits), onOff(f), fmt.Sprintf("%.0f", b.Ours), fmt.Sprintf("%.0f", b.Software),
			fmt.Sprintf("%.0f", b.Floor), fmt.Sprintf("%.4f", b.ToSoftware), fmt.Sprintf("%.2f", b.ToFloor),
		})
	}
	header := []string{"ALGORITHM", "KEY MODE", "ONE-BITS", "CACHE", "OURS/S", "SOFTWARE/S", "FLOOR/S", "OURS:SOFTWARE", "OURS:FLOOR"}
	return c.list(list, header, rows)
}
