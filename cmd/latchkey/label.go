package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newTerminalLabel(c *console, r *registry) *cobra.Command {
	op := admin.Operation{Action: string(provision.ActionLabel)}
	var labels []string
	cmd := &cobra.Command{
		Use:   "label ID",
		Short: "Put a terminal into a group, and note something about it",
		Long: `Label gives a terminal its group and labels, in place of those that it had; without flags it has none. They are for
people and for latchkey terminal list: nothing is permitted or refused by them.`,
		Example: "  latchkey terminal label T-0001 --group NORTH --label city=Graz --label model=P2",
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			op.Terminal = args[0]
			var err error
			if op.Labels, err = parseLabels(op.Group, labels); err != nil {
				return err
			}
			return r.operate(cmd.Context(), c, op)
		},
	}
	cmd.Flags().StringVar(&op.Group, "group", "", "1 to 32 of A-Z, 0-9 and -")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "KEY=VALUE; may be given again")
	cmd.Flags().StringVar(&op.Reason, "reason", "", "why, for the audit log")
	return cmd
}

// parseLabels reads a group, which may be empty, and labels.
func parseLabels(group string, labels []string) (out []admin.Label, _ error) {
	if group != "" {
		if _, err := provision.ParseGroup(group); err != nil {
			return nil, exit.With(exit.Usage, err, "as in: --group NORTH")
		}
	}
	if len(labels) == 0 {
		return nil, nil
	}
	parsed, err := fleet.ParseLabels(labels)
	if err != nil {
		return nil, exit.With(exit.Usage, err, "as in: --label city=Graz")
	}
	for _, l := range parsed {
		out = append(out, admin.Label(l))
	}
	return out, nil
}

// marksText is group and labels of a terminal in one line.
func marksText(t admin.Terminal) string {
	var all []string
	if t.Group != "" {
		all = append(all, t.Group)
	}
	for _, l := range t.Labels {
		all = append(all, l.Key+"="+l.Value)
	}
	return strings.Join(all, ", ")
}

// withMarks adds a column for groups and labels to a table of terminals, where any of them has some.
func withMarks(header []string, rows [][]string, all []admin.Terminal) []string {
	if !slices.ContainsFunc(all, func(t admin.Terminal) bool { return marksText(t) != "" }) {
		return header
	}
	for i, t := range all {
		rows[i] = append(rows[i], marksText(t))
	}
	return append(header, "GROUP AND LABELS")
}
