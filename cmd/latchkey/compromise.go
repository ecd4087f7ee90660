package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// watchEvery is how often --watch asks.
const watchEvery = 2 * time.Second

func newKeyCompromise(c *console) *cobra.Command {
	r := &registry{folder: folder{c: c}}
	var successor, reason string
	var watch bool
	cmd := &cobra.Command{
		Use:   "compromise KEYSET [--successor KEYSET]",
		Short: "Take a key set out of use whose base key may be in other hands",
		Long: `Compromise lists the terminals that have a slot of a key set, or a key of it that is not retired, and how far each is
from being free of it. With --successor it takes the set out of use:

  - no key of the set is delivered any more, from now on by the registration authority, and by the key-distribution host
    as soon as it has been told; that cannot be undone;
  - every terminal is ordered to fetch keys of the successor (latchkey-terminal rekey). Until its new key has proved itself
    the old one works, or the terminal could not sell; then it drains, as with every rekey.

The successor is a set over another base key, which is not that of any set taken out of use so, for the same purposes, and
its keys are delivered over the same curve. In production a second person approves it. When every
terminal is rekeyed or out, retire the set: latchkey keyset state KEYSET retired. To have nothing accepted before that,
block it (latchkey keyset state KEYSET blocked): its terminals are held until they have their new keys.

A terminal is waiting (for its order), ordered (to fetch a key), delivered (the key is not proved yet), rekeyed, or out
(revoked, retired or compromised itself).`,
		Example: `  latchkey key compromise DATA-1
  latchkey key compromise DATA-1 --successor DATA-2 --reason "a custodian has left with both components"
  latchkey key compromise DATA-1 --watch`,
		Args: arguments("KEYSET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCompromise(args[0], successor, reason); err != nil {
				return err
			}
			op := admin.Operation{Action: string(provision.ActionCompromiseSet), KeySet: args[0], Successor: successor, Reason: reason}
			return r.compromise(cmd.Context(), c, op, watch)
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&successor, "successor", "", "key set that the terminals are moved to: this takes KEYSET out of use")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	cmd.Flags().BoolVar(&watch, "watch", false, "show how many are how far until all are rekeyed or out")
	return cmd
}

func checkCompromise(set, successor, reason string) error {
	for _, id := range []string{set, successor} {
		if _, err := keyset.ParseID(id); err != nil && id != "" {
			return exit.With(exit.Usage, err, "a key set has a name of 1 to 32 of A-Z, 0-9 and -")
		}
	}
	if set == successor {
		return exit.With(exit.Usage, errors.New("a key set does not follow itself"), "name another one with --successor")
	}
	if reason != "" && successor == "" {
		return exit.With(exit.Usage, errors.New("--reason goes with --successor"), "without it nothing is changed")
	}
	return checkReason(reason)
}

// compromise takes a set out of use, if a successor is named, and shows how far it is.
func (r *registry) compromise(ctx context.Context, c *console, op admin.Operation, watch bool) error {
	return r.session(ctx, func(ctx context.Context, client *admin.Client) error {
		if op.Successor != "" {
			within, cancel := context.WithTimeout(ctx, registryTimeout)
			out, err := client.Do(within, op)
			cancel()
			if err != nil {
				return err
			}
			r.relatives(c, op.KeySet)
			if out.Approval != nil {
				c.note("next: another operator runs: latchkey approve %s", out.Approval.ID)
				return c.show(members{out}, field{"waits for approval", out.Approval.ID}, field{"key set", op.KeySet},
					field{"successor", op.Successor}, field{"until", moment(out.Approval.Expires)})
			}
			c.note("no key of %s is delivered any more", op.KeySet)
		}
		if watch {
			return watchCampaign(ctx, c, client, op.KeySet)
		}
		ctx, cancel := context.WithTimeout(ctx, registryTimeout)
		defer cancel()
		all, err := client.Campaign(ctx, op.KeySet)
		if err != nil {
			return err
		}
		return showCampaign(c, all)
	})
}

// relatives warns of other key sets over the same base key: what is known of one is known of all.
func (r *registry) relatives(c *console, set string) {
	d, err := r.opened.KeySets()
	if err != nil {
		return // the authority has read its own
	}
	i := slices.IndexFunc(d, func(s *keyset.KeySet) bool { return string(s.ID) == set })
	for _, s := range d {
		if i >= 0 && s.ID != d[i].ID && s.BaseKeyFingerprint == d[i].BaseKeyFingerprint && s.State != keyset.Retired {
			c.note("%s is over the same base key: it is as open as %s", s.ID, set)
		}
	}
}

// remaining is how many slots are still to be rekeyed.
func remaining(k *admin.Campaign) (n int) {
	for _, p := range []string{"waiting", "ordered", "delivered"} {
		n += k.Slots[p]
	}
	return n
}

// watchCampaign shows numbers until nothing is left to be done.
func watchCampaign(ctx context.Context, c *console, client *admin.Client, set string) error {
	bar := newBar(c.stderr, "rekeyed")
	for {
		within, cancel := context.WithTimeout(ctx, registryTimeout)
		k, err := client.CampaignCounts(within, set)
		cancel()
		if err != nil {
			return err
		}
		if k.Successor == "" {
			return exit.With(exit.Refused, fmt.Errorf("%s is not known to be compromised", set), "name a successor first, with --successor")
		}
		all := 0
		for n := range maps.Values(k.Slots) {
			all += n
		}
		left := remaining(k)
		bar.show(all-left, all)
		if left == 0 && !k.Ordering && k.Told {
			bar.end()
			return showCampaign(c, k)
		}
		select {
		case <-ctx.Done():
			bar.end()
			return errors.Join(ctx.Err(), showCampaign(c, k))
		case <-time.After(watchEvery):
		}
	}
}

func showCampaign(c *console, k *admin.Campaign) error {
	if c.format == "json" {
		return c.json(members{k})
	}
	fields := []field{{"key set", k.KeySet}, {"delivery", "goes on"}}
	switch {
	case k.Stopped && k.Told:
		fields[1].value = "stopped"
	case k.Stopped:
		fields[1].value = "stopped here; the key-distribution host is not told yet"
	}
	if k.Successor != "" {
		fields = append(fields, field{"successor", k.Successor}, field{"since", moment(k.Since)}, field{"by", fmt.Sprint(k.Names)})
	}
	if k.Ordering {
		fields = append(fields, field{"orders", "are being given"})
	}
	for _, p := range []string{"waiting", "ordered", "delivered", "rekeyed", "out"} {
		fields = append(fields, field{p, k.Slots[p]})
	}
	if err := c.show(nil, fields...); err != nil {
		return err
	}
	switch {
	case k.Successor != "" && remaining(k) == 0 && !k.Ordering:
		c.note("next: every terminal is rekeyed or out: latchkey keyset state %s retired", k.KeySet)
	case k.Successor == "" && !k.Stopped:
		c.note("nothing was changed: --successor takes %s out of use", k.KeySet)
	}
	if len(k.Hit) == 0 {
		return nil
	}
	fmt.Fprintln(c.stdout)
	var rows [][]string
	for _, h := range k.Hit {
		rows = append(rows, []string{h.Terminal, h.Status, fmt.Sprint(h.Slot), h.KeySet, h.Progress})
	}
	return c.list(nil, []string{"ID", "STATUS", "SLOT", "KEY SET", "PROGRESS"}, rows)
}
