package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
)

// makeDeployment is the first step: the folder of the host's side.
func (s *story) makeDeployment(ctx context.Context) (err error) {
	s.out.line("making issuers, certificates and keys in %s …", s.root)
	if s.site, err = createSite(ctx, s.root, s.options); err != nil {
		return err
	}
	if s.tokens != nil {
		s.out.line("%s holds a fresh token for each host: base keys, zone keys, the keys of the issuers,", s.tokens.module)
		s.out.line("of what signs deliveries and the registry feed, and of the decryption service's listener")
	}
	if s.vault != nil {
		s.showVault()
	}
	rows, err := s.keyRows(ctx)
	if err != nil {
		return err
	}
	s.out.table(rows...)
	sets, err := s.deployment.KeySets()
	if err != nil {
		return err
	}
	rows = [][]string{{"KEY SET", "SCHEME", "BASE KEY", "KEY IDS FROM", "TO", "STATE"}}
	for _, k := range sets {
		rows = append(rows, []string{
			string(k.ID), k.Scheme.String(), k.BaseKey.String(), k.FirstID.String(), k.LastID.String(), k.State.String(),
		})
	}
	s.out.table(rows...)
	return nil
}

func (s *story) startServices(ctx context.Context) error {
	if err := s.start(ctx, s.root); err != nil {
		return err
	}
	s.out.table(
		[]string{"key-distribution host", s.keydURL, "for the registration authority, mutual TLS 1.3"},
		[]string{"registration authority", s.raURL, "for terminals: EST, initial keys; TLS 1.3"},
		[]string{"", s.servicesURL, "for operators and services: administration, registry feed"},
		[]string{"", s.publicationURL, "the signed trust list, for terminals that trust nobody yet"},
		[]string{"decryption service", "https://" + s.service.Service, "for acquirers' hosts, mutual TLS 1.3; follows the feed"},
		[]string{"", "http://" + s.service.Admin, "health and metrics"},
		[]string{"acquirer's host", s.url, "for terminals, mutual TLS 1.3; follows the feed"},
	)
	return nil
}

// signsIn has a terminal sign in, and counts that.
func (s *story) signsIn(ctx context.Context, t *till) (*terminal.SignInResult, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	r, err := t.terminal.SignIn(ctx)
	if err != nil {
		return nil, err
	}
	if r.Result != message.SignedIn {
		return nil, fmt.Errorf("%s is told %v, want %v", t.name, r.Result, message.SignedIn)
	}
	s.counts.SignIns++
	return r, nil
}

func (s *story) signIn(ctx context.Context) error {
	for _, t := range s.tills {
		res, err := s.signsIn(ctx, t)
		if err != nil {
			return err
		}
		if _, err := s.wire.last(); err != nil {
			return err
		}
		seen := s.callers.peer(string(t.name))
		if seen.serial == "" || seen.serial != t.terminal.Status().Serial {
			return fmt.Errorf("the acquirer's host saw %v, not %s", seen, t.name)
		}
		s.out.held("%s: %v, host time %s", t.name, res.Result, res.HostTime.Format(time.RFC3339))
		if err := s.registered(ctx, t.name, "active", seen.serial); err != nil {
			return err
		}
		s.out.line("   the terminal saw  %v", t.hosts.peer(demoAcquirer))
		s.out.line("   the acquirer saw  %v", seen)
	}
	s.out.line("the acquirer called %v", s.wire.peer())
	s.out.line("the registry has both as active: the decryption service reported that their keys proved themselves")
	s.setUp = time.Since(s.started)
	return nil
}

// sales returns the step of the honest sales at one terminal.
func (s *story) sales(till int) func(context.Context) error {
	return func(ctx context.Context) error {
		t := s.tills[till]
		for i, cents := range []int64{1234, 2950, 499} {
			sale, err := t.sell(ctx, s.site, euro(cents), i)
			if err != nil {
				return err
			}
			s.counts.sold(sale.took)
			for _, f := range sale.service.Fields {
				if err := s.counts.labelled(t.scheme, f.Labels); err != nil {
					return err
				}
			}
			s.showSale(t, sale)
		}
		return s.checkLedger()
	}
}

func (s *story) showSale(t *till, sale *sold) {
	d, p := sale.data(), sale.pin()
	s.out.held("%s sale %d: %v, card %s, %v, counter %s, %d ms", t.name, sale.number, sale.amount, d.MaskedPAN,
		sale.result.Result, sale.service.CounterStatus, sale.took.Milliseconds())
	s.out.table(labelled("   card data", d), labelled("   PIN", p))
	s.out.line("   PIN block %s under %s, KCV %s; opened by the issuer, PIN matches: %s",
		p.PINFormat, p.PINKey, p.PINKeyKCV, yesNo(sale.pinMatches))
}

// labelled is one line about a field: its key, and what stands in the labels of the answer.
func labelled(name string, f api.Field) []string {
	return []string{
		name, "KSN " + f.KSN, f.KeySet, "base key KCV " + f.KCV,
		"Environment " + f.Labels.Environment, "KeyMode " + f.Labels.KeyMode, "PinExposure " + f.Labels.PINExposure,
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// checkLedger compares the acquirer's ledger with the sales that terminals were told are approved.
func (s *story) checkLedger() error {
	if got := len(s.ledger.Entries()); got != s.counts.Sales {
		return fmt.Errorf("the acquirer's ledger has %d entries, the terminals know of %d sales", got, s.counts.Sales)
	}
	return nil
}

// close ends the terminals, then the services.
func (s *story) close() error {
	var errs []error
	for _, t := range s.tills {
		errs = append(errs, t.close())
	}
	if s.site != nil {
		errs = append(errs, s.site.close())
	}
	return errors.Join(errs...)
}
