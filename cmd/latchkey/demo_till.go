package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
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
	copied   *terminal.Bundle
	rogue    *rogue.Terminal
	hosts    witness // the acquirer's host, as the terminal saw it
	sales    []*sold
}

// newTill registers a terminal and imports its bundle into a folder of its own.
func newTill(ctx context.Context, b *site, root string, name keyset.TerminalID, scheme dukpt.Scheme) (*till, error) {
	t := &till{name: name, scheme: scheme, folder: filepath.Join(root, string(name)), line: &line{}}
	bundle, err := sample.Terminal(ctx, b.deployment, name, scheme, b.url)
	if err != nil {
		return nil, err
	}
	defer bundle.Wipe()
	t.copied = copyBundle(bundle)
	if t.rogue, err = rogue.New(t.copied); err != nil {
		return nil, err
	}
	if t.line.link, err = bundle.Link(terminal.LinkOptions{Gate: &t.hosts}); err != nil {
		return nil, err
	}
	if err := os.Mkdir(t.folder, 0o700); err != nil {
		return nil, err
	}
	medium := terminal.OSFS(t.folder)
	sealer, err := terminal.CreateInsecureFile(medium)
	if err != nil {
		return nil, err
	}
	if err := terminal.Import(medium, sealer, bundle); err != nil {
		return nil, err
	}
	t.terminal, err = terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Link: t.line})
	return t, err
}

// copyBundle is what somebody does who gets at a bundle before it is imported.
func copyBundle(b *terminal.Bundle) *terminal.Bundle {
	out := *b
	out.PrivateKey = b.PrivateKey.Clone()
	out.Slots = slices.Clone(b.Slots)
	for i := range out.Slots {
		out.Slots[i].KBPK = b.Slots[i].KBPK.Clone()
	}
	return &out
}

func (t *till) close() error {
	if t.rogue != nil {
		t.rogue.Close()
	}
	t.copied.Wipe()
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
