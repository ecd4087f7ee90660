// Package enginetest is the conformance suite that every implementation of engine.Engine runs.
//
// [Run] opens a fresh engine for each test through the fixture of its caller. It plays the terminal with package dukpt, so
// that what one side makes the other has to take, and compares with published samples where the engine can import keys.
package enginetest

import (
	"bytes"
	"context"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// Fixture is a fresh engine under test, with no keys but those that Import puts in.
type Fixture struct {
	Engine engine.Engine
	// Import gives the engine a key under a new alias. The suite keeps and wipes k.
	Import func(ref keyset.KeyRef, k keys.Key, env keyset.Environment) error
	// KeyMode says where the engine keeps keys of an algorithm. Nil: all keys in one place, wherever that is.
	KeyMode func(keys.Algorithm) engine.KeyMode
	// Blind says that the engine moves PIN blocks without opening them: it may let one pass that does not open, if none that
	// opens comes out, and it keeps the terminal's fill.
	Blind bool
	// Fixed says that the engine holds keys of fixed value of every kind, and keys that unwrap others. Without it data keys are all
	// there is, and the engine says so.
	Fixed bool
	// Close makes the engine unusable. Nil: the engine has no such thing.
	Close func()
}

// Run runs the suite; open makes a fixture and registers its own cleaning up.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"PublishedTDES", publishedTDES},
		{"PublishedAES", publishedAES},
		{"PINRoundTrip", pinRoundTrip},
		{"FormatsAndPANs", formatsAndPANs},
		{"WrongPAN", wrongPAN},
		{"WrongMAC", wrongMAC},
		{"DataRoundTrip", dataRoundTrip},
		{"ResponseDirection", responseDirection},
		{"KeysApart", keysApart},
		{"WrongUsage", wrongUsage},
		{"WrongEnvironment", wrongEnvironment},
		{"WrongScheme", wrongScheme},
		{"UnknownKey", unknownKey},
		{"BadIdentifiers", badIdentifiers},
		{"Describe", describe},
		{"Batch", batch},
		{"Append", appends},
		{"FixedData", fixedData},
		{"FixedKeys", fixedKeys},
		{"FixedMACs", fixedMACs},
		{"FixedPINs", fixedPINs},
		{"FixedBlocks", fixedBlocks},
		{"End", end},
		{"Cancelled", cancelled},
		{"Concurrent", concurrent},
		{"Check", check},
		{"Closed", closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, newBench(t, open(t)))
		})
	}
}

// The keys of the suite. The base keys are those of the published samples.
const (
	tdesBDK   = "0123456789ABCDEFFEDCBA9876543210"
	aesBDK    = "FEDCBA9876543210F1F1F1F1F1F1F1F1"
	otherBDK  = "89E88CF7931444F334BD7547FC3F380C"
	tdesZone  = "1A2B3C4D5E6F70818293A4B5C6D7E8F9"
	aesZone   = "00112233445566778899AABBCCDDEEFF"
	dataKey   = "0F1E2D3C4B5A69788796A5B4C3D2E1F0"
	prodZone  = "101112131415161718191A1B1C1D1E1F"
	tdesKeyID = "FFFF9876543210E00000"
	aesKeyID  = "1234567890123456"
)

// bench is an engine with the keys of the suite.
type bench struct {
	Fixture
	refs map[string]keyset.KeyRef
	keys map[string]keys.Key
}

// newBench imports every key of the suite.
func newBench(t *testing.T, f Fixture) *bench {
	t.Helper()
	b := &bench{Fixture: f, refs: map[string]keyset.KeyRef{}, keys: map[string]keys.Key{}}
	b.holds(t, []material{
		{"bdk/tdes", tdesBDK, keys.TDES2, keys.UsageBDK, keys.ModeDerive, keyset.Test},
		{"bdk/aes", aesBDK, keys.AES128, keys.UsageBDK, keys.ModeDerive, keyset.Test},
		{"bdk/other", otherBDK, keys.TDES2, keys.UsageBDK, keys.ModeDerive, keyset.Test},
		{"zone/tdes", tdesZone, keys.TDES2, keys.UsagePIN, keys.ModeEncrypt, keyset.Test},
		{"zone/aes", aesZone, keys.AES128, keys.UsagePIN, keys.ModeEncrypt, keyset.Test},
		{"data", dataKey, keys.AES128, keys.UsageData, keys.ModeBoth, keyset.Test},
		{"zone/production", prodZone, keys.AES128, keys.UsagePIN, keys.ModeEncrypt, keyset.Production},
	})
	return b
}

func (b *bench) begin(t *testing.T, alias string, ksn dukpt.KSN) engine.HostOps {
	t.Helper()
	ops, err := b.Engine.Begin(t.Context(), b.refs[alias], ksn)
	if err != nil {
		t.Fatalf("Begin(%s, %s): %v", alias, ksn, err)
	}
	t.Cleanup(ops.End)
	return ops
}

// terminal is the other end: it holds the initial key that was derived from a base key of the suite.
type terminal struct {
	t  *testing.T
	tm *dukpt.Terminal
}

func (b *bench) terminal(t *testing.T, alias, keyID string) *terminal {
	t.Helper()
	base, err := dukpt.NewBaseKey(b.keys[alias])
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
	tm, err := dukpt.NewTerminal(ik)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tm.Wipe)
	return &terminal{t: t, tm: tm}
}

// next returns the terminal's next transaction.
func (x *terminal) next() *dukpt.Transaction {
	x.t.Helper()
	if x.tm.Available() == 0 {
		if err := x.tm.Reserve(8, func(secret.Bytes) error { return nil }); err != nil {
			x.t.Fatal(err)
		}
	}
	tx := dukpt.NewTransaction()
	if err := x.tm.Next(tx); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(tx.End)
	return tx
}

// side is one scheme with what the suite needs of it.
type side struct {
	scheme           dukpt.Scheme
	bdk, zone, keyID string
	format           pin.Format
	mac              dukpt.MACSpec
	data             dukpt.DataSpec
	response         dukpt.DataSpec
	block            int
}

func sides() []side {
	out := []side{
		{scheme: dukpt.TDES, bdk: "bdk/tdes", zone: "zone/tdes", keyID: tdesKeyID, format: pin.Format0, block: 8},
		{scheme: dukpt.AES, bdk: "bdk/aes", zone: "zone/aes", keyID: aesKeyID, format: pin.Format4, block: 16},
	}
	for i := range out {
		s := &out[i]
		s.mac, s.data, s.response = s.scheme.DefaultMAC(), s.scheme.DefaultData(), s.scheme.DefaultData()
		s.response.Direction = dukpt.Response
	}
	return out
}

func eachSide(t *testing.T, test func(*testing.T, side)) {
	t.Helper()
	for _, s := range sides() {
		t.Run(s.scheme.String(), func(t *testing.T) { test(t, s) })
	}
}

// openZone opens a block under a zone key of the suite, as the issuer of the card would.
func (b *bench) openZone(t *testing.T, alias string, block []byte, pan pin.PAN) (o pin.Opened, err error) {
	t.Helper()
	raw := b.keys[alias].Material().Expose()
	if b.keys[alias].Attributes().Algorithm.IsAES() {
		c, err := aes.NewCipher(raw)
		if err != nil {
			t.Fatal(err)
		}
		return pin.DecryptFormat4(c, block, pan)
	}
	c, err := des.New(raw)
	if err != nil {
		t.Fatal(err)
	}
	err = pin.Format0.Decrypt(&o, c, block, pan)
	return o, err
}

// samePIN compares PINs in blocks under a key of the test's: what came out of a block leaves in no other way.
func samePIN(t *testing.T, got pin.Opened, digits string, pan pin.PAN) bool {
	t.Helper()
	c, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	a, err := got.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: pan, Cipher: c}, pin.Fill{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := pin.EncryptFormat4(nil, c, newPIN(t, digits), pan, pin.Fill{})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(a, b)
}

func newPIN(t *testing.T, digits string) pin.PIN {
	t.Helper()
	p, err := pin.ParsePIN([]byte(digits))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newPAN(t *testing.T, digits string) pin.PAN {
	t.Helper()
	p, err := pin.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ref(t *testing.T, s string) keyset.KeyRef {
	t.Helper()
	r, err := keyset.ParseKeyRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ksn(t *testing.T, s string) dukpt.KSN {
	t.Helper()
	k, err := dukpt.ParseKSNHex(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func want(t *testing.T, what string, got error, target error) {
	t.Helper()
	if !errors.Is(got, target) {
		t.Errorf("%s: got error %v, want %v", what, got, target)
	}
}

func cancelledContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// material is a key of the suite.
type material struct {
	alias, hex string
	algorithm  keys.Algorithm
	usage      keys.Usage
	mode       keys.Mode
	env        keyset.Environment
}

// holds imports keys.
func (b *bench) holds(t *testing.T, all []material) {
	t.Helper()
	for _, k := range all {
		key, err := keys.NewKey(keys.Attributes{
			Algorithm: k.algorithm, Usage: k.usage, Mode: k.mode, Exportability: keys.NonExportable,
		}, unhex(t, k.hex))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(key.Wipe)
		name := ref(t, "alias/"+k.alias)
		if err := b.Import(name, key, k.env); err != nil {
			t.Fatalf("import %s: %v", name, err)
		}
		b.refs[k.alias], b.keys[k.alias] = name, key
	}
}
