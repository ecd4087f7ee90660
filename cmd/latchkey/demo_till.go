package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

// testCards are numbers that card schemes and processors publish for tests, as track 2.
var testCards = []string{
	";4111111111111111=30121010000000000000?",
	";5555555555554444=30121010000000000000?",
	";378282246310005=301210100000000?",
}

// euro returns an amount in euro cents.
func euro(cents int64) message.Amount {
	return message.Amount{Minor: cents, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2}
}

// sold is a sale that was made, with what was on the wire and what the decryption service said about it.
type sold struct {
	number       int // from 1, of the terminal
	amount       message.Amount
	sent, answer []byte
	result       *terminal.SaleResult
	service      *api.TransactionResponse
	took         time.Duration
	pinMatches   bool
}

// till is one terminal with its folder, the wire to the acquirer, and a dishonest twin that holds a copy of its keys.
type till struct {
	name     keyset.TerminalID
	scheme   dukpt.Scheme
	folder   string
	terminal *terminal.Terminal
	line     *line
	copied   *terminal.Bundle // the keys of the twin
	rogue    *rogue.Terminal
	hosts    witness // the acquirer's host, as the terminal saw it
	sales    []*sold
}

// openTill opens a terminal that has enrolled, and has somebody listen on its wire.
func openTill(s *site, b *boxed) (*till, error) {
	t := &till{name: b.name, scheme: b.scheme, folder: b.folder, line: &line{}}
	if err := t.connect(s, terminal.OSFS(t.folder), 0, s.url); err != nil {
		return t, err
	}
	return t, t.copyKeys(s)
}

// connect opens the terminal on a medium, with its link to a host. reserve is how many keys it makes ready.
func (t *till) connect(s *site, medium terminal.FS, reserve int, url string) error {
	sealer, err := terminal.OpenInsecureFile(medium)
	if err != nil {
		return err
	}
	if t.terminal, err = terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: t.line, Reserve: reserve}); err != nil {
		return err
	}
	trust, err := s.deployment.Trust()
	if err != nil {
		return err
	}
	t.line.link, err = terminal.NewLink(terminal.LinkOptions{
		Endpoints: []terminal.Endpoint{{URL: url}}, Credential: t.terminal.Credential(), Roots: trust.Services, Gate: &t.hosts,
	})
	return err
}

// copyKeys gives the dishonest twin what somebody has who opens the terminal in the minute of its delivery: the initial
// keys. They are derived here once more from the base keys, because the terminal has forgotten them by now.
func (t *till) copyKeys(s *site) error {
	catalog, err := s.deployment.Catalog()
	if err != nil {
		return err
	}
	t.copied = &terminal.Bundle{Tenant: demoTenant, Terminal: t.name, Environment: keyset.Test}
	for _, slot := range t.terminal.Status().Slots {
		set, ok := catalog.KeySet(slot.Slot.KeySet)
		if !ok {
			return fmt.Errorf("there is no key set %s", slot.Slot.KeySet)
		}
		copied, err := s.copyKey(set, slot.Slot.Number, slot.Slot.KeyID)
		if err != nil {
			return err
		}
		t.copied.Slots = append(t.copied.Slots, copied)
	}
	t.rogue, err = rogue.New(t.copied)
	return err
}

// recopy gives the twin the keys that the terminal has now.
func (t *till) recopy(s *site) error {
	t.rogue.Close()
	t.copied.Wipe()
	return t.copyKeys(s)
}

// copyKey derives the initial key of a slot once more.
func (b *site) copyKey(set *keyset.KeySet, slot uint8, id dukpt.KeyID) (terminal.BundleSlot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), demoTimeout)
	defer cancel()
	ik, err := b.initialKey(ctx, set.BaseKey, id)
	if err != nil {
		return terminal.BundleSlot{}, err
	}
	defer ik.Wipe()
	return terminal.NewBundleSlot(slot, set, ik)
}

func (t *till) close() error {
	if t.rogue != nil {
		t.rogue.Close()
	}
	if t.copied != nil {
		t.copied.Wipe()
	}
	if t.line.link != nil {
		t.line.link.Close()
	}
	if t.terminal == nil {
		return nil
	}
	return t.terminal.Close()
}

// sell makes a sale with card number n of the test cards, and with a PIN that nobody knows beforehand.
func (t *till) sell(ctx context.Context, b *site, amount message.Amount, card int) (*sold, error) {
	typed, err := randomPIN()
	if err != nil {
		return nil, err
	}
	defer typed.Wipe()
	track := secret.From([]byte(testCards[card]))
	defer track.Wipe()
	b.wire.take()
	s := &sold{number: len(t.sales) + 1, amount: amount}
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	begin := time.Now()
	s.result, err = t.terminal.Sale(ctx, terminal.SaleRequest{Amount: amount, Track: track, PIN: typed})
	s.took = time.Since(begin)
	if err != nil {
		return nil, err
	}
	s.sent, s.answer = t.line.sent, t.line.answer
	if s.service, err = b.wire.last(); err != nil {
		return nil, err
	}
	if err := s.check(t); err != nil {
		return nil, err
	}
	if err := s.checkPIN(b.issuer, track, typed); err != nil {
		return nil, err
	}
	t.sales = append(t.sales, s)
	return s, nil
}

// check holds an honest sale to what it must look like at every peer.
func (s *sold) check(t *till) error {
	switch {
	case !s.result.Approved():
		return fmt.Errorf("sale %d of %s is %v, want APPROVED", s.number, t.name, s.result.Result)
	case s.service.CounterStatus != api.Fresh:
		return fmt.Errorf("the decryption service calls sale %d of %s %s, want %s", s.number, t.name, s.service.CounterStatus, api.Fresh)
	case s.service.RequestDigest != s.result.Digest.String():
		return fmt.Errorf("terminal and decryption service name different messages")
	case len(s.service.Fields) != 2:
		return fmt.Errorf("the decryption service answered %d fields, want card data and PIN", len(s.service.Fields))
	}
	for _, f := range s.service.Fields {
		if f.Labels.KeyMode == "" || f.Labels.PINExposure == "" || f.Labels.Environment != keyset.Test.String() {
			return fmt.Errorf("the answer about slot %d lacks a label: %+v", f.Slot, f.Labels)
		}
	}
	if s.data().MaskedPAN == "" || s.pin().PINBlock == "" {
		return fmt.Errorf("the decryption service released no masked card number or no PIN block")
	}
	return nil
}

// checkPIN opens the translated PIN block as the issuer does.
func (s *sold) checkPIN(i *issuer, track secret.Bytes, typed pin.PIN) error {
	pan, err := pin.FindPAN(track.Expose())
	if err != nil {
		return err
	}
	defer pan.Wipe()
	if s.data().MaskedPAN != pan.Masked() {
		return fmt.Errorf("the decryption service read card %s, the terminal %s", s.data().MaskedPAN, pan.Masked())
	}
	if s.pinMatches, err = i.matches(s.pin(), pan, typed); err != nil {
		return fmt.Errorf("the issuer cannot open the PIN block: %w", err)
	}
	if !s.pinMatches {
		return fmt.Errorf("the issuer finds another PIN than the one that was typed")
	}
	return nil
}

// data and pin are the two fields of a sale.
func (s *sold) data() api.Field { return fieldOf(s.service, sample.DataSlot) }
func (s *sold) pin() api.Field  { return fieldOf(s.service, sample.PINSlot) }

func fieldOf(tx *api.TransactionResponse, slot uint8) api.Field {
	for _, f := range tx.Fields {
		if f.Slot == slot {
			return f
		}
	}
	return api.Field{}
}

// randomPIN makes a PIN of four to six digits.
func randomPIN() (pin.PIN, error) {
	digits := make([]byte, 4+digit(3))
	defer secret.Wipe(digits)
	for i := range digits {
		digits[i] = '0' + digit(10)
	}
	return pin.ParsePIN(digits)
}

// digit draws a number below n.
func digit(n int64) byte {
	v, _ := rand.Int(rand.Reader, big.NewInt(n)) // cannot fail
	return byte(v.Int64())
}
