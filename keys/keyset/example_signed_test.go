package keyset_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// approver makes a certificate as a CA for custodians would issue it.
func approver(name string) (cert []byte, key *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	cert, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return cert, key
}

// trustAll is a verifier for an example only: a real one checks the chain, the role and the time.
func trustAll(der []byte) (string, crypto.PublicKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "", nil, err
	}
	return c.Subject.CommonName, c.PublicKey, nil
}

// Two people sign a set, and whoever reads it learns who they were.
func ExampleOpenKeySet() {
	s, err := newSet()
	if err != nil {
		panic(err)
	}
	s.Environment, s.Delivery = keyset.Production, keyset.Attested
	payload, err := keyset.Marshal(s)
	if err != nil {
		panic(err)
	}
	anna, annaKey := approver("ANNA")
	doc, err := keyset.Sign(keyset.KindKeySet, payload, anna, annaKey)
	if err != nil {
		panic(err)
	}
	_, _, err = keyset.OpenKeySet(doc, trustAll)
	fmt.Println(errors.Is(err, keyset.ErrApprovals), err)

	bert, bertKey := approver("BERT")
	if doc, err = keyset.AddSignature(doc, bert, bertKey); err != nil {
		panic(err)
	}
	read, approvers, err := keyset.OpenKeySet(doc, trustAll)
	fmt.Println(read.ID, approvers, err)
	// Output:
	// true keyset: too few approvers: 1, want 2 in production
	// PIN-AES [ANNA BERT] <nil>
}

// A document of another kind travels in the same envelope, and a signature for one kind is none for another.
func ExampleOpen() {
	anna, key := approver("ANNA")
	doc, err := keyset.Sign("makers", []byte("a list"), anna, key)
	if err != nil {
		panic(err)
	}
	seen, err := keyset.ParseSigned(doc) // what it claims, before anything is verified
	if err != nil {
		panic(err)
	}
	fmt.Println(seen.Kind, len(seen.Signatures))

	payload, approvers, err := keyset.Open(doc, "makers", trustAll)
	fmt.Printf("%s %v %v\n", payload, approvers, err)
	fmt.Println(keyset.RequireApprovals(keyset.Test, approvers))
	_, _, err = keyset.Open(doc, keyset.KindKeySet, trustAll)
	fmt.Println(errors.Is(err, keyset.ErrFormat))
	// Output:
	// makers 1
	// a list [ANNA] <nil>
	// <nil>
	// true
}

// A terminal record says which key sits in which slot.
func ExampleOpenTerminal() {
	id, err := dukpt.ParseKeyID("1234567890123456")
	if err != nil {
		panic(err)
	}
	record := &keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: "SHOP", ID: "T-1", Status: keyset.StatusPending, Generation: 1,
		Slots: []keyset.Slot{{Slot: 1, KeySet: "PIN-AES", KeyID: id, State: keyset.SlotPending}},
	}
	payload, err := keyset.MarshalTerminal(record)
	if err != nil {
		panic(err)
	}
	anna, key := approver("ANNA")
	doc, err := keyset.Sign(keyset.KindTerminal, payload, anna, key)
	if err != nil {
		panic(err)
	}
	t, approvers, err := keyset.OpenTerminal(doc, trustAll)
	if err != nil {
		panic(err)
	}
	slot, ok := t.Key(1, id)
	fmt.Println(t.ID, t.Status, "by", approvers, slot.KeySet, slot.State, ok, t.HasSlot(2))

	t.Slots[0].Slot = keyset.MaxSlots + 1
	fmt.Println(t.Validate())
	// Output:
	// T-1 pending by [ANNA] PIN-AES pending true false
	// keyset: terminal record breaks a rule: slot 17, want 1 to 16
}
