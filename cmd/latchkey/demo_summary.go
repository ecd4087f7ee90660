package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
)

// demoLimit is how long the demonstration may take.
const demoLimit = time.Minute

// tally counts what the peers have answered.
type tally struct {
	SignIns  int
	Sales    int // approved
	Fresh    int
	Resend   int
	Held     int
	Refusals map[string]int

	modes     map[string]string // the labels of answers about honest sales: key mode and PIN exposure, by scheme
	exposures map[string]int    // the labels of deliveries in the audit log of the key-distribution host, and how many have each

	took []time.Duration // one for each honest sale with PIN
}

// sold counts an approved sale with card data and PIN.
func (c *tally) sold(took time.Duration) {
	c.Sales++
	c.Fresh++
	c.took = append(c.took, took)
}

// labelled notes the labels of one field of an answer. Those of a scheme are the same in all of them.
func (c *tally) labelled(scheme dukpt.Scheme, l api.Labels) error {
	if c.modes == nil {
		c.modes = make(map[string]string)
	}
	was, label := c.modes[scheme.String()], l.KeyMode+", PIN exposure "+l.PINExposure
	if was != "" && was != label {
		return fmt.Errorf("answers about %v say KeyMode %s, and %s before", scheme, label, was)
	}
	c.modes[scheme.String()] = label
	return nil
}

func (c *tally) refused(code string) {
	if c.Refusals == nil {
		c.Refusals = make(map[string]int)
	}
	c.Refusals[code]++
}

func (c *tally) median() time.Duration {
	if len(c.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(c.took))
	return sorted[len(sorted)/2]
}

// summary is the demonstration in numbers; its JSON form is for programs.
type summary struct {
	Sales         int               `json:"sales"`
	SignIns       int               `json:"signIns"`
	Fresh         int               `json:"answersFresh"`
	Resend        int               `json:"answersResend"`
	Held          int               `json:"answersHeld"`
	Refusals      map[string]int    `json:"refusals"`
	KeyModes      map[string]string `json:"keyModes"`        // key mode and PIN exposure, by scheme, as answers say
	Deliveries    map[string]int    `json:"deliveries"`      // of initial keys, by label, as the audit log of the key-distribution host says
	Vault         *vaultCalls       `json:"vault,omitempty"` // what Vault's own audit log says, with --vault
	LedgerEntries int               `json:"ledgerEntries"`
	HighestSum    uint64            `json:"highestCountersSummed"` // the highest ordinal of each slot; gaps count
	Conflicts     uint64            `json:"conflicts"`
	AuditLeaves   uint64            `json:"auditLeaves"`
	SlowestCut    float64           `json:"slowestCutMilliseconds"` // from the revocation to the last door that closed
	SetUp         float64           `json:"setUpSeconds"`
	SaleMedian    float64           `json:"saleMedianMilliseconds"`
	Total         float64           `json:"totalSeconds"`
}

// summary asks the peers for their numbers and holds the whole to its time limit.
func (s *story) summary(ctx context.Context) (summary, error) {
	sum := summary{
		Sales: s.counts.Sales, SignIns: s.counts.SignIns, Fresh: s.counts.Fresh, Resend: s.counts.Resend, Held: s.counts.Held,
		Refusals: s.counts.Refusals, KeyModes: s.counts.modes, Deliveries: s.counts.exposures, LedgerEntries: len(s.ledger.Entries()), AuditLeaves: s.leaves,
		SlowestCut: float64(s.cuts.Microseconds()) / 1000,
		SetUp:      s.setUp.Seconds(), SaleMedian: float64(s.counts.median().Microseconds()) / 1000,
	}
	if s.vault != nil {
		sum.Vault = &s.vault.calls
	}
	for _, t := range s.tills {
		c, err := s.client.Counters(ctx, string(t.name))
		if err != nil {
			return sum, err
		}
		for _, slot := range c.Slots {
			sum.HighestSum += uint64(slot.Seen)
			sum.Conflicts += slot.Conflicts
		}
	}
	sum.Total = time.Since(s.started).Seconds()
	if sum.Total > demoLimit.Seconds() {
		return sum, exit.Errorf(exit.Verification, "the demonstration took %.0f s, want at most %.0f s", sum.Total, demoLimit.Seconds())
	}
	return sum, nil
}

func (s summary) rows() [][]string {
	var refusals, delivered []string
	total := 0
	for _, label := range slices.Sorted(maps.Keys(s.Deliveries)) {
		delivered = append(delivered, fmt.Sprintf("%s (%d)", label, s.Deliveries[label]))
	}
	for _, code := range slices.Sorted(maps.Keys(s.Refusals)) {
		refusals = append(refusals, fmt.Sprintf("%s %d", code, s.Refusals[code]))
		total += s.Refusals[code]
	}
	rows := [][]string{}
	for _, scheme := range slices.Sorted(maps.Keys(s.KeyModes)) {
		rows = append(rows, []string{scheme + " keys", "KeyMode " + s.KeyModes[scheme]})
	}
	if s.Vault != nil {
		rows = append(rows, []string{"terminals certified by", fmt.Sprintf("Vault %s: %d signed, %d revoked, by its own audit log", s.Vault.Version, s.Vault.Signed, s.Vault.Revoked)})
	}
	return append(rows, [][]string{
		{"delivery of initial keys", strings.Join(delivered, ", ")},
		{"sales approved", fmt.Sprint(s.Sales)},
		{"ledger entries", fmt.Sprint(s.LedgerEntries)},
		{"answers", fmt.Sprintf("%d fresh, %d resend, %d held, %d sign-in", s.Fresh, s.Resend, s.Held, s.SignIns)},
		{"refusals", fmt.Sprintf("%d: %s", total, strings.Join(refusals, ", "))},
		{"highest counters, summed", fmt.Sprint(s.HighestSum)},
		{"conflicts", fmt.Sprint(s.Conflicts)},
		{"audit leaves", fmt.Sprint(s.AuditLeaves)},
		{"a stolen terminal is out", fmt.Sprintf("%.0f ms after it was revoked", s.SlowestCut)},
		{"set-up", fmt.Sprintf("%.1f s", s.SetUp)},
		{"a sale", fmt.Sprintf("%.1f ms (median)", s.SaleMedian)},
		{"all of it", fmt.Sprintf("%.1f s", s.Total)},
	}...)
}
