package message_test

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// A terminal encodes, MACs and assembles; the host parses, checks the MAC, and answers.
func Example() {
	ksn, err := dukpt.ParseKSNHex("123456789012345600000001")
	if err != nil {
		panic(err)
	}
	currency, err := message.ParseCurrency("EUR")
	if err != nil {
		panic(err)
	}
	payload, err := message.Encode(&message.Payload{
		Version: message.FormatVersion, Type: message.Sale, Environment: keyset.Test, Tenant: "SHOP", Terminal: "T-0001",
		BootCounter: 1, Sequence: 1, Time: 1767225600,
		MAC:    message.MACRef{Slot: 1, KSN: ksn, Algorithm: dukpt.MACCMAC, Length: 16},
		Amount: &message.Amount{Minor: 1234, Currency: currency, Exponent: 2},
	})
	if err != nil {
		panic(err)
	}
	mac := make([]byte, 16) // the terminal's Transaction.MAC over payload
	request := message.Assemble(payload, mac)

	m, err := message.Parse(request)
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Payload.Type, m.Payload.Terminal, m.Payload.Amount, "under", m.Payload.MAC.KSN)

	answer, err := message.EncodeAck(&message.AckPayload{
		Version: message.FormatVersion, Result: message.Approved, Digests: m.Digests(), HostTime: 1767225601,
	})
	if err != nil {
		panic(err)
	}
	ack, err := message.ParseAck(message.AssembleAck(answer, make([]byte, 16)))
	if err != nil {
		panic(err)
	}
	fmt.Println(ack.Payload.Result, ack.Payload.Answers(message.DigestOf(request)))
	// Output:
	// sale T-0001 12.34 EUR under 123456789012345600000001
	// APPROVED true
}

// A message that is not spelled in the one deterministic way is refused, whatever it says.
func ExampleParse_refused() {
	_, err := message.Parse([]byte{0x9f, 0xff})
	fmt.Println(err)
	// Output:
	// message: invalid message: cbor: indefinite-length array isn't allowed
}
