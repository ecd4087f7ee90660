package rogue_test

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAttacks lets the rogue do its worst against a host that checks everything: each message is well made, and refused
// for what it is.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, scheme := range []dukpt.Scheme{dukpt.TDES, dukpt.AES} {
		t.Run(scheme.String(), func(t *testing.T) {
			t.Parallel()
			lab := terminaltest.NewLab(t, scheme)
			bad, err := rogue.New(lab.Bundle(t))
			check(t, err)
			defer bad.Close()
			p, err := pin.ParsePIN([]byte("1234"))
			check(t, err)
			own, err := pin.ParsePAN("4761739001010119")
			check(t, err)
			other, err := pin.ParsePAN("4111111111111111")
			check(t, err)
			sale := func(ordinal uint32, minor int64, pan pin.PAN) *message.Payload {
				t.Helper()
				amount := message.Amount{Minor: minor, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2}
				s, err := bad.Sale(uint64(ordinal), amount, []byte(";4761739001010119=2912"), terminaltest.DataSlot,
					terminaltest.PINSlot, ordinal, p, pan)
				check(t, err)
				return s
			}
			send := func(s *message.Payload, ordinal uint32) ([]byte, error) {
				t.Helper()
				raw, err := bad.Message(s, terminaltest.DataSlot, ordinal)
				check(t, err)
				return lab.Host.Receive(raw)
			}

			answer, err := send(sale(7, 100, own), 7)
			check(t, err)
			ack, err := bad.Ack(answer, terminaltest.DataSlot, 7)
			check(t, err)
			if ack.Result != message.Approved {
				t.Fatalf("an honest sale: %v", ack.Result)
			}
			if _, err := bad.Ack(answer, terminaltest.DataSlot, 8); !errors.Is(err, dukpt.ErrVerify) {
				t.Errorf("the ack under another key: %v, want ErrVerify", err)
			}
			if _, err := send(sale(7, 999, own), 7); !errors.Is(err, terminaltest.ErrReused) {
				t.Errorf("the same KSN with another amount: %v, want ErrReused", err)
			}
			if scheme == dukpt.AES { // format 0 shows another PAN only by luck
				if _, err := send(sale(8, 100, other), 8); !errors.Is(err, dukpt.ErrVerify) {
					t.Errorf("a PIN block of another card: %v, want ErrVerify", err)
				}
			}
			asData := sale(9, 100, own)
			asData.Fields = []message.Field{rogue.AsData(asData.Fields[1])}
			if _, err := send(asData, 9); err == nil {
				t.Error("a PIN block sent as data is decrypted to a card")
			}
			raw, err := bad.Message(sale(10, 100, own), terminaltest.DataSlot, 10)
			check(t, err)
			raw[len(raw)-1] ^= 1
			if _, err := lab.Host.Receive(raw); !errors.Is(err, terminaltest.ErrMessage) {
				t.Errorf("a flipped bit: %v, want ErrMessage", err)
			}
		})
	}
}
