//go:build cgo && !core

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// unanswered is LK_UNANSWERED.
const unanswered code = 70

// TestKeptSale wraps everything that can end the wait for an answer into the error of a sale that is kept: firmware that hears another code
// takes it that there is no sale, and charges the card again.
func TestKeptSale(t *testing.T) {
	reasons := []error{
		errEngine, errBusy, errInternal, errClosed, terminal.ErrAck, context.DeadlineExceeded, context.Canceled, syscall.ENOSPC,
		&terminal.HostError{Status: 403}, &terminal.HostError{Status: 503}, &enroll.Refusal{Status: 403}, &fs.PathError{Err: fs.ErrNotExist},
		&url.Error{Err: errors.New("refused")}, &tls.CertificateVerificationError{Err: errors.New("unknown")}, errors.New("unforeseen"),
	}
	for _, m := range meanings {
		reasons = append(reasons, m.err)
	}
	for _, reason := range reasons {
		if c := codeOf(reason); c == unanswered || c == 0 {
			t.Errorf("%v gives %d without a sale", reason, int(c))
		}
		sale := &terminal.UnansweredError{Pending: terminal.Pending{Sequence: 7}, Err: fmt.Errorf("terminal: %w", reason)}
		if !strings.Contains(sale.Error(), reason.Error()) { // which is what lk_terminal_detail says
			t.Errorf("%q does not say why: %v", sale.Error(), reason)
		}
		for name, err := range map[string]error{
			"by itself": sale, "wrapped": fmt.Errorf("sale: %w", sale), "while the terminal closes": fmt.Errorf("%w: %w", errClosed, sale),
			"joined": errors.Join(reason, sale), "in another": &terminal.UnansweredError{Err: sale},
		} {
			if c := codeOf(err); c != unanswered {
				t.Errorf("a sale that is kept, because of %v, %s: %d, want LK_UNANSWERED", reason, name, int(c))
			}
		}
	}
}

// TestOutcomesMapped goes through all results that a host may give: each has a number of its own, which the header says, and none is 0,
// which says that nobody was asked.
func TestOutcomesMapped(t *testing.T) {
	header := make(map[string]string)
	for _, o := range enumeration(t, "lk_outcome") {
		header[o.number] = o.name
	}
	seen := make(map[string]message.Result)
	for r := message.Result(1); ; r++ {
		if _, err := r.MarshalText(); err != nil {
			break // the last has been
		}
		n := strconv.Itoa(int(outcomeOf(r)))
		if other, twice := seen[n]; twice {
			t.Errorf("%v and %v are both %s", r, other, n)
		}
		seen[n] = r
		if header[n] == "" || header[n] == "LK_OTHER" {
			t.Errorf("%v is %s, which is no outcome of the header", r, n)
		}
		if got := resultOf(&terminal.SaleResult{Result: r}); strconv.Itoa(int(got.outcome)) != n {
			t.Errorf("%v comes out as %d, want %s", r, got.outcome, n)
		}
	}
	if len(seen) != len(header)-1 {
		t.Errorf("%d results and %d outcomes beside LK_OTHER", len(seen), len(header)-1)
	}
	for _, r := range []message.Result{0, 200} {
		if n := strconv.Itoa(int(resultOf(&terminal.SaleResult{Result: r}).outcome)); header[n] != "LK_OTHER" {
			t.Errorf("%v, which the library does not know, is %s", r, n)
		}
	}
}
