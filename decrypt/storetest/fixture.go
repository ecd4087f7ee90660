package storetest

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// noon is the clock of the suite.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 123_000_000, time.UTC)

const (
	windowW  = 64
	windowJ  = 200
	horizonR = 24 * time.Hour
)

var (
	base    = must(keys.ParseFingerprint("000102030405060708090a0b0c0d0e0f"))
	pinID   = must(dukpt.ParseKeyID("FFFF9876543210E00000"))
	dataID  = must(dukpt.ParseKeyID("1234567890123456"))
	otherID = must(dukpt.ParseKeyID("1234567890123457"))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("storetest: " + err.Error())
	}
	return v
}

// ksn is the n-th key of an initial key.
func ksn(id dukpt.KeyID, n uint32) dukpt.KSN { return must(id.AtOrdinal(n)) }

// digest names a message.
func digest(name string) message.Digest { return message.DigestOf([]byte(name)) }

// treatment encodes a treatment whose outgoing key was resolved to a version.
func treatment(key, resolved string) []byte {
	t := decrypt.Treatment{Operation: "translate-pin", FromFormat: "ISO_FORMAT_0", ToFormat: "ISO_FORMAT_0"}
	t.OutgoingKey = must(keyset.ParseKeyRef("alias/" + key))
	t.Resolved = must(keyset.ParseKeyRef("alias/" + key + "-" + resolved))
	return must(t.Encode())
}

// claim makes an authenticated claim of a set with windows.
func claim(id dukpt.KeyID, n uint32, p decrypt.Purpose, content string) decrypt.Claim {
	c := decrypt.Claim{
		BaseKey: base, KSN: ksn(id, n), Purpose: p, Content: decrypt.Content(sha256.Sum256([]byte(content))),
		ClaimKeyVersion: 1, FillKeyVersion: 1, Treatment: treatment("zone", "v1"),
		Authenticated: true, MACKSN: ksn(id, n), MaxContents: 1, Windowed: true, W: windowW, J: windowJ,
		Horizon: noon.Add(-horizonR),
	}
	switch p {
	case decrypt.PurposeData:
		c.MaxContents = 2
	case decrypt.PurposeSignIn:
		c.MaxContents = decrypt.MaxSignIns
	}
	return c
}

// bare makes a claim that no MAC covers, of a set without windows.
func bare(id dukpt.KeyID, n uint32, p decrypt.Purpose, content string) decrypt.Claim {
	c := claim(id, n, p, content)
	c.Authenticated, c.MACKSN, c.Windowed, c.W, c.J = false, dukpt.KSN{}, false, 0, 0
	return c
}

// message is a set of claims under a name.
func set(name string, claims ...decrypt.Claim) decrypt.ClaimSet {
	return decrypt.ClaimSet{
		Digest: digest(name), Original: digest(name), Tenant: "SHOP", Context: []byte("context of " + name), Time: noon,
		Claims: claims, Audit: record("transaction/sale", name),
	}
}

// at is the same set at another time of the host.
func at(s decrypt.ClaimSet, when time.Time) decrypt.ClaimSet {
	s.Time, s.Claims = when, slices.Clone(s.Claims)
	for i := range s.Claims {
		s.Claims[i].Horizon = when.Add(-horizonR)
	}
	return s
}

// record is an audit record of a message.
func record(action, name string) audit.Record {
	return audit.Record{
		Time: noon, Instance: "decrypt-1", Actor: "ACQ-1", Role: "acquirer-host", Tenant: "SHOP", Action: action,
		Object: name, Digest: digest(name), Result: "DONE",
	}
}

// sale is a message with a MAC, a PIN and card data under counter n.
func sale(name string, n uint32) decrypt.ClaimSet {
	return set(name,
		claim(dataID, n, decrypt.PurposeMAC, name+" mac"),
		claim(pinID, n, decrypt.PurposePIN, name+" pin"),
		claim(dataID, n, decrypt.PurposeData, name+" data"))
}

// resent is a message that carries a sale, MACed under counter n.
func resent(name string, n uint32, inner decrypt.ClaimSet) decrypt.ClaimSet {
	s := set(name, append(slices.Clone(inner.Claims), claim(dataID, n, decrypt.PurposeMAC, name+" mac"))...)
	s.Original = inner.Digest
	return s
}

// reversal is a message under counter n that reverses the one MACed under counter of.
func reversal(name string, n, of uint32) decrypt.ClaimSet {
	s := set(name, claim(dataID, n, decrypt.PurposeMAC, name+" mac"))
	s.Closes = &decrypt.Closes{BaseKey: base, MACKSN: ksn(dataID, of)}
	return s
}

// drained is the same set of a terminal that is blocked, under drain grants.
func drained(s decrypt.ClaimSet, grants ...decrypt.Grant) decrypt.ClaimSet {
	s.Grants = grants
	return s
}

// answer decides a message.
func answer(s decrypt.ClaimSet, result message.Result) decrypt.Answer {
	return decrypt.Answer{
		Digest: s.Digest, Original: s.Original, Tenant: s.Tenant, Result: result, Body: []byte("auth 123456"),
		Ack: fmt.Appendf(nil, "ack of %v: %v", s.Digest, result), KSN: s.Claims[0].KSN,
		Content: decrypt.Content(s.Digest), Time: noon.Add(time.Second), Audit: record("answer", s.Audit.Object),
	}
}

// claimed claims and demands a verdict.
func claimed(t testing.TB, s decrypt.Store, set decrypt.ClaimSet, want decrypt.Verdict) decrypt.ClaimOutcome {
	t.Helper()
	out, err := s.Claim(t.Context(), set)
	if err != nil {
		t.Fatalf("claim %s: %v, want %v", set.Audit.Object, err, want)
	}
	if out.Verdict != want {
		t.Fatalf("claim %s: %v, want %v", set.Audit.Object, out.Verdict, want)
	}
	return out
}
