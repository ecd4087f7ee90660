package trustlist_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func roots(a identity.Authority) []*x509.Certificate {
	return must(catest.NewFake(a, catest.Twist{}, time.Now)).Chain()[1:]
}

// A list is signed offline. A terminal that knows the pin of the key opens it, and keeps what it accepted.
func Example() {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	doc := must(trustlist.Sign(&trustlist.List{
		Tenant: "SHOP", Version: 1, NotBefore: time.Now().Truncate(time.Second),
		Terminals: roots(identity.TerminalCA), Services: roots(identity.ServicesCA), KeyDist: roots(identity.KeyDistCA),
	}, key))
	onPaper := must(trustlist.PinOf(key.Public())).String() // 26 characters

	accepted := trustlist.Accepted{Tenant: "SHOP", Pins: []trustlist.Pin{must(trustlist.ParsePin(onPaper))}}
	list := must(trustlist.Open(doc, accepted))
	accepted = accepted.Next(list) // saved before anything is trusted
	trust := list.Trust()          // for tls/tlsconf
	fmt.Println("version", accepted.Version, "with roots for services:", trust.Services != nil)

	stranger := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	_, err := trustlist.Open(must(trustlist.Sign(list, stranger)), accepted)
	fmt.Println(err)
	// Output:
	// version 1 with roots for services: true
	// trustlist: list refused: an unknown key has signed it
}

// People type a pin in lower case, with hyphens, and with letters that the alphabet does not have.
func ExampleParsePin() {
	fmt.Println(trustlist.ParsePin("o123-4567-89ab-cdef-ghjk-mnpq-rl"))
	// Output:
	// 0123456789ABCDEFGHJKMNPQR1 <nil>
}
