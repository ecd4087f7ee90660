package decrypt_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/limit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// answeredWell is what codeOf says of no error.
var answeredWell = codeOf(nil)

// trailStore notes the audit records that do not come with a claim.
type trailStore struct {
	decrypt.Store
	mu      sync.Mutex
	records []audit.Record
	claims  int
	broken  error
}

func (s *trailStore) Audit(ctx context.Context, r audit.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.records = append(s.records, r)
	return s.Store.Audit(ctx, r)
}

func (s *trailStore) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	s.mu.Lock()
	s.claims++
	s.mu.Unlock()
	return s.Store.Claim(ctx, set)
}

func (s *trailStore) last(t *testing.T) audit.Record {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == 0 {
		t.Fatal("nothing was recorded")
	}
	return s.records[len(s.records)-1]
}

func (s *trailStore) count() (records, claims int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records), s.claims
}

// hall is a laboratory with keys of fixed value and a caller who may use them.
type hall struct {
	*laboratory
	trail *trailStore
	keys  map[string]keys.Key
}

var tpk = []byte("\x2c\x31\x40\x57\x68\x79\x8a\x9b\xad\xbc\xcb\xda\xe9\xf8\x01\x10")

func newHall(t *testing.T, limits decrypt.Limits) *hall {
	t.Helper()
	h := &hall{laboratory: newLaboratory(t, dukpt.AES), keys: map[string]keys.Key{}}
	h.trail = &trailStore{Store: h.store}
	for _, k := range []struct {
		name  string
		a     keys.Algorithm
		usage keys.Usage
		mode  keys.Mode
		env   keyset.Environment
	}{
		{"tpk-aes", keys.AES128, keys.UsagePIN, keys.ModeBoth, keyset.Test},
		{"data", keys.AES256, keys.UsageData, keys.ModeBoth, keyset.Test},
		{"out", keys.TDES3, keys.UsageData, keys.ModeEncrypt, keyset.Test},
		{"prod", keys.AES128, keys.UsageData, keys.ModeBoth, keyset.Production},
		{"cmac", keys.AES128, keys.UsageMACCMAC, keys.ModeGenVerify, keyset.Test},
		{"retail", keys.TDES2, keys.UsageMACRetail, keys.ModeGenVerify, keyset.Test},
		{"hmac", keys.HMAC256, keys.UsageHMAC, keys.ModeVerify, keyset.Test},
		{"kek", keys.AES256, keys.UsageKBPK, keys.ModeBoth, keyset.Test},
		{"kek-2", keys.AES256, keys.UsageKBPK, keys.ModeBoth, keyset.Test},
		{"unlisted", keys.AES128, keys.UsageData, keys.ModeBoth, keyset.Test},
	} {
		h.add(t, k.name, must[keys.Key](t)(keys.GenerateKey(keys.Attributes{Algorithm: k.a, Usage: k.usage, Mode: k.mode, Exportability: keys.NonExportable})), k.env)
	}
	h.add(t, "tpk", must[keys.Key](t)(keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, tpk)), keyset.Test)
	grant := func(name string, actions ...decrypt.KeyAction) decrypt.KeyGrant {
		return decrypt.KeyGrant{Key: h.ref(name), For: actions}
	}
	h.caller.Keys = []decrypt.KeyGrant{
		grant("tpk", decrypt.ActionTranslateFrom), grant("tpk-aes", decrypt.ActionTranslateFrom),
		grant("data", decrypt.ActionDecrypt, decrypt.ActionEncrypt, decrypt.ActionReEncryptFrom),
		grant("out", decrypt.ActionReEncryptTo, decrypt.ActionDecrypt), grant("prod", decrypt.ActionReEncryptTo, decrypt.ActionEncrypt),
		grant("cmac", decrypt.ActionGenerateMAC, decrypt.ActionVerifyMAC), grant("retail", decrypt.ActionVerifyMAC), grant("hmac", decrypt.ActionVerifyMAC, decrypt.ActionGenerateMAC),
		{Key: h.ref("kek"), For: []decrypt.KeyAction{decrypt.ActionDecrypt, decrypt.ActionTranslateTo, decrypt.ActionReEncryptTo}, Wraps: []keys.Usage{keys.UsageData, keys.UsagePIN}},
	}
	h.limited(t, limits)
	return h
}

// limited makes the service anew with limits.
func (h *hall) limited(t *testing.T, limits decrypt.Limits) {
	t.Helper()
	h.service = must[*decrypt.Service](t)(decrypt.New(decrypt.Config{
		Engine: h.engine, Store: h.trail, Catalog: h.books, Secrets: h.ring, Clock: h.clock.Now, Instance: "TEST",
		Logger: slog.New(slog.NewJSONHandler(h.log, nil)), Limits: limits,
	}))
}

func (h *hall) ref(name string) keyset.KeyRef {
	ref, err := keyset.ParseKeyRef("alias/" + name)
	if err != nil {
		h.tb.Fatal(err)
	}
	return ref
}

func (h *hall) add(t *testing.T, name string, k keys.Key, env keyset.Environment) {
	t.Helper()
	t.Cleanup(k.Wipe)
	must[engine.KeyInfo](t)(h.ring.Import(h.ref(name), k, env))
	h.keys[name] = k
}

// zoned is a PIN block of format 0 under the key of the other zone, and the call that moves it.
func (h *hall) zoned(t *testing.T, digits, card string) decrypt.PINCall {
	t.Helper()
	c := must[*des.Cipher](t)(des.New(tpk))
	pan := must[pin.PAN](t)(pin.ParsePAN(card))
	block := must[[]byte](t)(pin.Format0.Encrypt(nil, c, must[pin.PIN](t)(pin.ParsePIN([]byte(digits))), pan, pin.Fill{}))
	return decrypt.PINCall{
		Key: decrypt.CallKey{Base: h.ref("tpk")}, Block: block, Format: pin.Format0, PAN: pan, Outgoing: h.caller.PINKeys[1], ToFormat: pin.Format4, ToPAN: pan,
	}
}

// TestZoneToZone moves a PIN from zone to zone: nothing is claimed, and answer and record say so.
func TestZoneToZone(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{})
	req := h.zoned(t, "4711", testPAN)
	first := must[*decrypt.CallResult](t)(h.service.TranslatePIN(t.Context(), h.caller, req))
	again := must[*decrypt.CallResult](t)(h.service.TranslatePIN(t.Context(), h.caller, req))
	if first.Status != decrypt.CounterNone || again.Status != decrypt.CounterNone || first.Authenticated || !bytes.Equal(first.Output.Expose(), again.Output.Expose()) {
		t.Errorf("%v, then %v", first.Status, again.Status)
	}
	zone := must[cipher.Block](t)(aes.NewCipher(zoneKeyAES))
	if _, err := pin.DecryptFormat4(zone, first.Output.Expose(), req.PAN); err != nil {
		t.Errorf("the zone does not open it: %v", err)
	}
	r := h.trail.last(t)
	records, claims := h.trail.count()
	if r.Result != "NONE" || r.Action != "translate-pin" || !strings.HasPrefix(r.Object, "alias/tpk/") || r.KCV == "" || r.Digest == [32]byte{} || claims != 0 || records != 2 {
		t.Errorf("record %+v, %d records, %d claims", r, records, claims)
	}
	if strings.Contains(fmt.Sprintf("%+v%x", r, r.Digest), testPAN) {
		t.Error("the card number stands in the record")
	}
	h.trail.broken = errors.New("the disk is full")
	if res, err := h.service.TranslatePIN(t.Context(), h.caller, req); res != nil || codeOf(err) != decrypt.CodeStoreUnavailable {
		t.Errorf("without a record: %v, %v", res, err)
	}
}

// TestFixedKeysAreThoseOfTheList refuses every use that nobody permitted, or that the key is not for.
func TestFixedKeysAreThoseOfTheList(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{})
	ctx, block := t.Context(), make([]byte, 16)
	data := func(name string) decrypt.DataCall {
		return decrypt.DataCall{Key: decrypt.CallKey{Base: h.ref(name)}, Mode: dukpt.ECB, Data: block}
	}
	mac := func(name string, a dukpt.MACAlgorithm) decrypt.MACCall {
		return decrypt.MACCall{Key: decrypt.CallKey{Base: h.ref(name)}, Algorithm: a, Message: block, MAC: block}
	}
	pinTo := func(change func(*decrypt.PINCall)) decrypt.PINCall {
		req := h.zoned(t, "4711", testPAN)
		change(&req)
		return req
	}
	id := func(name string) keyset.KeyRef {
		return must[keyset.KeyRef](t)(h.ring.Engine().Resolve(ctx, h.ref(name)))
	}
	for name, c := range map[string]struct {
		call func() (*decrypt.CallResult, error)
		code decrypt.Code
	}{
		"not on the list":     {func() (*decrypt.CallResult, error) { return h.service.DecryptData(ctx, h.caller, data("unlisted")) }, decrypt.CodeKeyNotPermitted},
		"not there":           {func() (*decrypt.CallResult, error) { return h.service.DecryptData(ctx, h.caller, data("nothing")) }, decrypt.CodeKeyNotPermitted},
		"another action":      {func() (*decrypt.CallResult, error) { return h.service.EncryptData(ctx, h.caller, data("out")) }, decrypt.CodeKeyNotPermitted},
		"a mode that forbids": {func() (*decrypt.CallResult, error) { return h.service.DecryptData(ctx, h.caller, data("out")) }, decrypt.CodeKeyNotPermitted},
		"generation to verify": {func() (*decrypt.CallResult, error) {
			return h.service.GenerateMAC(ctx, h.caller, mac("hmac", dukpt.MACHMACSHA256))
		}, decrypt.CodeKeyNotPermitted},
		"another algorithm": {func() (*decrypt.CallResult, error) {
			return h.service.VerifyMAC(ctx, h.caller, mac("cmac", dukpt.MACRetail))
		}, decrypt.CodeKeyNotPermitted},
		"a wrong MAC": {func() (*decrypt.CallResult, error) {
			return h.service.VerifyMAC(ctx, h.caller, mac("cmac", dukpt.MACCMAC))
		}, decrypt.CodeMACInvalid},
		"a KEK without a block": {func() (*decrypt.CallResult, error) { return h.service.DecryptData(ctx, h.caller, data("kek")) }, decrypt.CodeKeyNotPermitted},
		"half a block": {func() (*decrypt.CallResult, error) {
			r := data("data")
			r.Data = block[1:]
			return h.service.DecryptData(ctx, h.caller, r)
		}, decrypt.CodeRequestMalformed},
		"a zone key off the list": {func() (*decrypt.CallResult, error) {
			return h.service.TranslatePIN(ctx, h.caller, pinTo(func(r *decrypt.PINCall) { r.Outgoing = h.ref("tpk-aes") }))
		}, decrypt.CodePINKeyNotPermitted},
		"a block for another card": {func() (*decrypt.CallResult, error) {
			return h.service.TranslatePIN(ctx, h.caller, pinTo(func(r *decrypt.PINCall) { r.Block = bytes.Repeat([]byte{7}, 8) }))
		}, decrypt.CodePINBlockInvalid},
		"format 4 under TDES": {func() (*decrypt.CallResult, error) {
			return h.service.TranslatePIN(ctx, h.caller, pinTo(func(r *decrypt.PINCall) { r.Format, r.Block = pin.Format4, block }))
		}, decrypt.CodeTranslationNotPermitted},
		"two environments": {func() (*decrypt.CallResult, error) {
			return h.service.ReEncryptData(ctx, h.caller, data("data"), data("prod"))
		}, decrypt.CodeEnvironmentMismatch},
	} {
		if res, err := c.call(); res != nil || codeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		if r := h.trail.last(t); r.Result != "REFUSED" || r.Reason != string(c.code) {
			t.Errorf("%s: recorded %+v", name, r)
		}
	}
	if _, err := h.service.DecryptData(ctx, h.caller, decrypt.DataCall{Key: decrypt.CallKey{Base: id("data")}, Mode: dukpt.ECB, Data: block}); err != nil {
		t.Errorf("by the identifier: %v", err)
	}
	if _, err := h.service.DecryptData(ctx, h.caller, decrypt.DataCall{Key: decrypt.CallKey{Base: id("unlisted")}, Mode: dukpt.ECB, Data: block}); codeOf(err) != decrypt.CodeKeyNotPermitted {
		t.Errorf("by the identifier of another: %v", err)
	}
}

// TestWrappedKeys works under keys that come with the call, of the usages that their key encryption key may bring.
func TestWrappedKeys(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{})
	p := must[*keyblock.Protector](t)(keyblock.NewProtector(h.keys["kek"]))
	defer p.Wipe()
	wrap := func(a keys.Algorithm, usage keys.Usage, mode keys.Mode) (string, keys.Key) {
		k := must[keys.Key](t)(keys.GenerateKey(keys.Attributes{Algorithm: a, Usage: usage, Mode: mode, Exportability: keys.NonExportable}))
		t.Cleanup(k.Wipe)
		return must[string](t)(p.Wrap(k)), k
	}
	block, k := wrap(keys.AES128, keys.UsageData, keys.ModeBoth)
	ct := make([]byte, 16)
	must[cipher.Block](t)(aes.NewCipher(k.Material().Expose())).Encrypt(ct, []byte("sixteen of bytes"))
	req := decrypt.DataCall{Key: decrypt.CallKey{Base: h.ref("kek"), Block: block}, Mode: dukpt.ECB, Data: ct}
	res := must[*decrypt.CallResult](t)(h.service.DecryptData(t.Context(), h.caller, req))
	if string(res.Output.Expose()) != "sixteen of bytes" || res.Key.KCV != k.KCV() || res.Status != decrypt.CounterNone {
		t.Errorf("%q under %v, %v", res.Output.Expose(), res.Key.KCV, res.Status)
	}
	mac, _ := wrap(keys.AES128, keys.UsageMACCMAC, keys.ModeGenVerify)
	for name, c := range map[string]struct {
		change func(*decrypt.DataCall)
		code   decrypt.Code
	}{
		"a usage that does not come":   {func(r *decrypt.DataCall) { r.Key.Block = mac }, decrypt.CodeKeyNotPermitted},
		"an altered header":            {func(r *decrypt.DataCall) { r.Key.Block = strings.Replace(block, "D0A", "D0T", 1) }, decrypt.CodeKeyBlockInvalid},
		"another key of the inventory": {func(r *decrypt.DataCall) { r.Key.Base = h.ref("data") }, decrypt.CodeKeyNotPermitted},
	} {
		bad := req
		c.change(&bad)
		if _, err := h.service.DecryptData(t.Context(), h.caller, bad); codeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if _, err := h.service.EncryptData(t.Context(), h.caller, req); codeOf(err) != decrypt.CodeKeyNotPermitted {
		t.Errorf("an action that the key encryption key is not for: %v", err)
	}
	zone, zk := wrap(keys.AES128, keys.UsagePIN, keys.ModeEncrypt)
	move := h.zoned(t, "4711", testPAN)
	move.Outgoing, move.OutgoingBlock = h.ref("kek"), zone
	moved := must[*decrypt.CallResult](t)(h.service.TranslatePIN(t.Context(), h.caller, move))
	if _, err := pin.DecryptFormat4(must[cipher.Block](t)(aes.NewCipher(zk.Material().Expose())), moved.Output.Expose(), move.PAN); err != nil {
		t.Errorf("the key that came does not open it: %v", err)
	}
	entered := h.pinCall(1)
	entered.OutgoingBlock = zone
	if _, err := h.service.TranslatePIN(t.Context(), h.caller, entered); codeOf(err) != decrypt.CodeNotSupported {
		t.Errorf("from a terminal to a key that came: %v", err)
	}
}

// TestSearchingForPINs goes at PINs as a caller could: one block with many cards, whose answers tell digits of the PIN, and many blocks for
// one card, which make a table of them. The cards of the first attack are those that differ from the right one, so that each is a question.
func TestSearchingForPINs(t *testing.T) {
	t.Parallel()
	const tries = 300
	many := limit.Rate{Burst: 10 * tries, Count: 1, Per: time.Hour} // calls: it is cards and blocks that are in the way
	h := newHall(t, decrypt.Limits{FixedCaller: many, FixedKey: many})
	asked := func(req decrypt.PINCall) (told bool) {
		_, err := h.service.TranslatePIN(t.Context(), h.caller, req)
		switch codeOf(err) {
		case answeredWell, decrypt.CodePINBlockInvalid:
			return true
		case decrypt.CodeRateLimited:
			r, _ := errors.AsType[*decrypt.Refusal](err)
			if r.RetryAfter <= 0 || r.RetryAfter > time.Hour {
				t.Errorf("retry after %v", r.RetryAfter)
			}
			return false
		}
		t.Fatal(err)
		return false
	}
	one := h.zoned(t, "4711", testPAN)
	told := 0
	for i := range tries {
		req := one
		req.PAN = must[pin.PAN](t)(pin.ParsePAN(fmt.Sprintf("4761%08d0119", i)))
		req.ToPAN = req.PAN
		if asked(req) {
			told++
		}
	}
	if told != decrypt.DefaultPINBlock.Burst {
		t.Errorf("one block answers %d questions, want %d", told, decrypt.DefaultPINBlock.Burst)
	}
	told = 0
	for i := range tries {
		if asked(h.zoned(t, fmt.Sprintf("%04d", i), otherPAN)) {
			told++
		}
	}
	if told != decrypt.DefaultPAN.Burst {
		t.Errorf("one card answers for %d blocks, want %d", told, decrypt.DefaultPAN.Burst)
	}
	told = 0
	for i := range 10 { // another check digit is another card number, and the same digits in the block
		if asked(h.zoned(t, fmt.Sprintf("9%03d", i), otherPAN[:15]+fmt.Sprint(i))) {
			told++
		}
	}
	if told != 0 {
		t.Errorf("%d more with other check digits", told)
	}
	for i := range 10 { // a PIN and a card that differ in one place give the same block
		if asked(h.zoned(t, fmt.Sprintf("8%03d", i), otherPAN[:3]+fmt.Sprintf("%04d", 1000+i)+otherPAN[7:])) {
			told++
		}
	}
	if told != 0 {
		t.Errorf("%d more with other digits where those of the PIN are", told)
	}
	if !asked(h.zoned(t, "0815", "4000000000000002")) {
		t.Error("another card is refused for what these did")
	}
	records, _ := h.trail.count()
	if most := 2*(decrypt.DefaultPINBlock.Burst+decrypt.DefaultPAN.Burst) + 20; records > most {
		t.Errorf("%d records of %d questions, want %d at most: a flood fills the log", records, 2*tries, most)
	}
	h.clock.Add(time.Hour)
	if !asked(one) {
		t.Error("an hour later it is still refused")
	}
}

// TestFloodingTheLimits makes cards up so that the table is full. The one that is watched stays refused, and other callers have room.
func TestFloodingTheLimits(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{
		Cards: 64, Callers: 2, FixedCaller: limit.Rate{Burst: 100_000, Count: 1, Per: time.Hour}, FixedKey: limit.Rate{Burst: 100_000, Count: 1, Per: time.Hour},
	})
	watched := func(i int) decrypt.PINCall { return h.zoned(t, fmt.Sprintf("%04d", i), testPAN) }
	ask := func(who decrypt.Caller, req decrypt.PINCall) decrypt.Code {
		_, err := h.service.TranslatePIN(t.Context(), who, req)
		return codeOf(err)
	}
	through, flood := 0, map[decrypt.Code]int{}
	for i := range 400 {
		if ask(h.caller, watched(i)) == answeredWell {
			through++
		}
		flood[ask(h.caller, h.zoned(t, "1111", fmt.Sprintf("4000%08d0002", i)))]++
	}
	if through != decrypt.DefaultPAN.Burst {
		t.Errorf("%d translations for the card, want %d", through, decrypt.DefaultPAN.Burst)
	}
	if flood[decrypt.CodeRateLimited] < 300 {
		t.Errorf("the crowd came to %v", flood)
	}
	if code := ask(h.caller, h.zoned(t, "1111", "5500000000001114")); code != decrypt.CodeRateLimited {
		t.Errorf("a card for which there is no room: %q", code)
	}
	honest := h.caller
	honest.Name = "ACQ-2"
	if code := ask(honest, h.zoned(t, "2222", "5500000000000012")); code != answeredWell {
		t.Errorf("another caller has no room: %q", code)
	}
}

// TestCallersAndKeysAreLimited counts what goes through at once, and that nothing is claimed for the rest.
func TestCallersAndKeysAreLimited(t *testing.T) {
	t.Parallel()
	r := limit.Rate{Burst: 7, Count: 1, Per: time.Hour}
	h := newHall(t, decrypt.Limits{Caller: r, Terminal: r, FixedCaller: limit.Rate{Burst: 1000, Count: 1, Per: time.Hour}, FixedKey: r})
	count := func(n int, call func(i int) error) (through int) {
		for i := range n {
			switch err := call(i); codeOf(err) {
			case answeredWell:
				through++
			case decrypt.CodeRateLimited:
			default:
				t.Fatal(err)
			}
		}
		return through
	}
	if n := count(20, func(int) error { return h.service.Admit(t.Context(), h.caller, "transaction", 1) }); n != 7 {
		t.Errorf("%d requests of one caller, want 7", n)
	}
	if err := h.service.Admit(t.Context(), decrypt.Caller{Tenant: "ACME", Name: "ACQ-2"}, "transaction", 7); err != nil {
		t.Errorf("another caller: %v", err)
	}
	records, _ := h.trail.count()
	if records != 1 {
		t.Errorf("%d records of 13 refusals, want 1", records)
	}
	if n := count(20, func(i int) error { _, err := h.send(h.sign(h.sale(uint32(i+1), 100), uint32(i+1))); return err }); n != 7 {
		t.Errorf("%d messages of one terminal, want 7", n)
	}
	if _, claims := h.trail.count(); claims != 7 {
		t.Errorf("%d claims, want 7", claims)
	}
	if n := count(20, func(i int) error {
		_, err := h.service.DecryptData(t.Context(), h.caller, h.card(uint32(i+50), testTrack))
		return err
	}); n != 0 {
		t.Errorf("%d more calls with its KSNs", n)
	}
	forged := h.sign(h.sale(40, 100), 40) // a stranger's: it has no MAC, and takes nothing of what the terminal may do
	forged[len(forged)-1] ^= 1
	h.clock.Add(time.Hour)
	for range 20 {
		h.refuses(forged, decrypt.CodeMACInvalid)
	}
	if n := count(3, func(i int) error { _, err := h.send(h.sign(h.sale(uint32(i+41), 100), uint32(i+41))); return err }); n != 1 {
		t.Errorf("%d messages after an hour, want 1", n)
	}
	data := decrypt.DataCall{Key: decrypt.CallKey{Base: h.ref("data")}, Mode: dukpt.ECB, Data: make([]byte, 16)}
	if n := count(20, func(int) error { _, err := h.service.DecryptData(t.Context(), h.caller, data); return err }); n != 7 {
		t.Errorf("%d calls under one key, want 7", n)
	}
}

// TestTooMuchWork has more come than may wait. Who is turned away has claimed nothing, and all others are answered.
func TestTooMuchWork(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{Working: 2, Waiting: 3, Patience: time.Minute})
	for range 2 {
		if err := h.service.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var shed, worked atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			err := h.service.Enter(t.Context())
			if codeOf(err) == decrypt.CodeOverloaded {
				shed.Add(1)
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			worked.Add(1)
			h.service.Leave()
		})
	}
	for shed.Load() < 17 { // three wait
		time.Sleep(time.Millisecond)
	}
	if working, waiting := h.service.Load(); working != 2 || waiting != 3 {
		t.Errorf("%d work and %d wait", working, waiting)
	}
	h.service.Leave()
	h.service.Leave()
	all.Wait()
	if shed.Load() != 17 || worked.Load() != 3 {
		t.Errorf("%d turned away, %d worked", shed.Load(), worked.Load())
	}
	if records, claims := h.trail.count(); records != 0 || claims != 0 {
		t.Errorf("%d records, %d claims", records, claims)
	}
}

// TestMACsOfFixedKeys makes a MAC and verifies it.
func TestMACsOfFixedKeys(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{})
	req := decrypt.MACCall{Key: decrypt.CallKey{Base: h.ref("cmac")}, Algorithm: dukpt.MACCMAC, Message: []byte("of any length")}
	whole := must[*decrypt.CallResult](t)(h.service.GenerateMAC(t.Context(), h.caller, req))
	req.Length = 8
	short := must[*decrypt.CallResult](t)(h.service.GenerateMAC(t.Context(), h.caller, req))
	if whole.Output.Len() != 16 || !bytes.Equal(short.Output.Expose(), whole.Output.Expose()[:8]) {
		t.Errorf("%s and %s", hex.EncodeToString(whole.Output.Expose()), hex.EncodeToString(short.Output.Expose()))
	}
	req.MAC = short.Output.Expose()
	res := must[*decrypt.CallResult](t)(h.service.VerifyMAC(t.Context(), h.caller, req))
	if res.Status != decrypt.CounterNone || res.Authenticated || res.Output.Len() != 0 {
		t.Errorf("verified: %v, authenticated %v", res.Status, res.Authenticated)
	}
	req.Length = 3
	if _, err := h.service.GenerateMAC(t.Context(), h.caller, req); codeOf(err) != decrypt.CodeRequestMalformed {
		t.Errorf("a MAC of three bytes: %v", err)
	}
}
