package hsm

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// The base keys of the published samples.
const (
	aesBDK  = "FEDCBA9876543210F1F1F1F1F1F1F1F1"
	tdesBDK = "0123456789ABCDEFFEDCBA9876543210"
)

func alias(t *testing.T, name string) keyset.KeyRef {
	t.Helper()
	ref, err := keyset.ParseKeyRef("alias/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func newKey(t *testing.T, a keys.Attributes, value string) keys.Key {
	t.Helper()
	k, err := keys.NewKey(a, unhex(value))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func attributesFor(a keys.Algorithm, u keys.Usage, m keys.Mode) keys.Attributes {
	return keys.Attributes{Algorithm: a, Usage: u, Mode: m, Exportability: keys.NonExportable}
}

// put imports a base key of a published sample.
func put(t *testing.T, token *Token, a keys.Algorithm) keyset.KeyRef {
	t.Helper()
	name, value := "aes", aesBDK
	if a.IsTDES() {
		name, value = "tdes", tdesBDK
	}
	ref := alias(t, name)
	if _, err := token.Import(t.Context(), ref, newKey(t, bdkAttributes(a), value), keyset.Test); err != nil {
		t.Fatal(err)
	}
	return ref
}

// till is a terminal of a published sample, which makes MACs.
type till struct {
	terminal *dukpt.Terminal
	mac      dukpt.MACSpec
}

func newTill(t *testing.T, a keys.Algorithm, keyID string) *till {
	t.Helper()
	value, mac := aesBDK, dukpt.AES.DefaultMAC()
	if a.IsTDES() {
		value, mac = tdesBDK, dukpt.TDES.DefaultMAC()
	}
	base, err := dukpt.NewBaseKey(newKey(t, bdkAttributes(a), value))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Wipe()
	id, err := dukpt.ParseKeyID(keyID)
	if err != nil {
		t.Fatal(err)
	}
	ik, err := base.Derive(id)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := dukpt.NewTerminal(ik)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(terminal.Wipe)
	return &till{terminal, mac}
}

// sent is a MACed message.
type sent struct {
	ksn  dukpt.KSN
	spec dukpt.MACSpec
	mac  []byte
}

var message = []byte("a message of more than one block")

func (x *till) send(t *testing.T) sent {
	t.Helper()
	if x.terminal.Available() == 0 {
		if err := x.terminal.Reserve(8, func(secret.Bytes) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	tx := dukpt.NewTransaction()
	if err := x.terminal.Next(tx); err != nil {
		t.Fatal(err)
	}
	defer tx.End()
	mac, err := tx.MAC(nil, x.mac, message)
	if err != nil {
		t.Fatal(err)
	}
	return sent{tx.KSN(), x.mac, mac}
}

// verify has a token verify a message, in a transaction of its own.
func (s sent) verify(t *testing.T, e engine.Engine, base keyset.KeyRef) error {
	t.Helper()
	ops, err := e.Begin(t.Context(), base, s.ksn)
	if err != nil {
		return err
	}
	defer ops.End()
	return ops.VerifyMAC(s.spec, message, s.mac)
}
