package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// A terminal that trusts nothing yet has a ticket typed in, and ends up with a certificate and what it is to do.
func Example() {
	ra := newAuthority(new(testing.T), plan{}) // stands in for latchkey-provisiond
	pin, err := trustlist.PinOf(ra.key.Public())
	if err != nil {
		panic(err)
	}

	ticket, err := enroll.ParseTicket([]byte(code + "-" + pin.String()))
	if err != nil {
		panic(err)
	}
	defer ticket.Wipe()
	ctx := context.Background()
	accepted := trustlist.Accepted{Tenant: "ACME", Pins: []trustlist.Pin{ticket.Pin}}
	_, list, err := enroll.FetchTrustList(ctx, ra.plain, accepted)
	if err != nil {
		panic(err)
	}

	options := enroll.Options{URL: ra.url, Tenant: "ACME", Terminal: "T-0001"}
	visitor, err := enroll.NewVisitor(options, list)
	if err != nil {
		panic(err)
	}
	defer visitor.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	csr, err := est.NewRequest(key, identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-0001"})
	if err != nil {
		panic(err)
	}
	chain, err := visitor.Enroll(ctx, csr, ticket.Code)
	if err != nil {
		panic(err)
	}

	cert := tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		panic(err)
	}
	member, err := enroll.NewMember(options, list, credential)
	if err != nil {
		panic(err)
	}
	defer member.Close()
	assignment, err := member.Assignment(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(credential)
	fmt.Println("slot", assignment.Slots[0].Slot, "key set", assignment.Slots[0].KeySet, "wanted", assignment.Slots[0].Wanted)
	// Output:
	// tlsconf.Credential(latchkey://ACME/terminal/T-0001)
	// slot 1 key set PIN-AES wanted true
}

// People type in lower case, put hyphens and spaces anywhere and take 0 for O. A mistyped short code is noticed at once.
func ExampleParseTicket() {
	ticket, err := enroll.ParseTicket([]byte("4xq7 m2b9 ktdo 2 - 0123-4567-89AB-CDEF-GHJK-MNPQ-RS"))
	if err != nil {
		panic(err)
	}
	defer ticket.Wipe()
	fmt.Println(ticket, ticket.Code.Len(), ticket.Pin)
	_, err = enroll.ParseTicket([]byte("5xq7 m2b9 ktdo 2 - 0123-4567-89AB-CDEF-GHJK-MNPQ-RS"))
	fmt.Println(err)
	// Output:
	// enroll.Ticket 13 0123456789ABCDEFGHJKMNPQRS
	// enroll: not a ticket: look for a mistyped character in its first part
}
