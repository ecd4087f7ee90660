package decrypt_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

func bothSchemes(t *testing.T, f func(*testing.T, dukpt.Scheme)) {
	t.Helper()
	for _, scheme := range []dukpt.Scheme{dukpt.TDES, dukpt.AES} {
		t.Run(scheme.String(), func(t *testing.T) {
			t.Parallel()
			f(t, scheme)
		})
	}
}

// holdsTestPIN opens a block under the zone key, and compares its PIN with that of the test in one more block.
func holdsTestPIN(t *testing.T, scheme dukpt.Scheme, block []byte) bool {
	t.Helper()
	pan := must[pin.PAN](t)(pin.ParsePAN(testPAN))
	c, err := aes.NewCipher(zoneKeyAES)
	if err != nil {
		t.Fatal(err)
	}
	var o pin.Opened
	if scheme == dukpt.TDES {
		err = pin.Format0.Decrypt(&o, must[*des.Cipher](t)(des.New(zoneKey)), block, pan)
	} else {
		err = pin.Format4.Decrypt(&o, c, block, pan)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := must[[]byte](t)(o.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: pan, Cipher: c}, pin.Fill{}))
	typed := must[pin.PIN](t)(pin.ParsePIN([]byte(testPIN)))
	return bytes.Equal(got, must[[]byte](t)(pin.EncryptFormat4(nil, c, typed, pan, pin.Fill{})))
}

// TestAShortMACAuthenticatesNoCounter sees that the result says of the counters what the claims say: only claims under a MAC
// that is evidence move the highest counter. The MACs of the laboratory have 16 bytes.
func TestAShortMACAuthenticatesNoCounter(t *testing.T) {
	t.Parallel()
	for evidence, want := range map[int]bool{16: true, 17: false} {
		l := newLaboratory(t, dukpt.AES)
		l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.MAC.Evidence = evidence })
		sale := l.sign(l.sale(1, 100), 1)
		for name, raw := range map[string][]byte{"sale": sale, "resend": l.resend(sale, 2), "sign-in": l.signIn(3)} {
			if res := l.accept(raw); res.Authenticated != want {
				t.Errorf("evidence from %d bytes, %s: authenticated %v, want %v", evidence, name, res.Authenticated, want)
			}
		}
		counters := must[*decrypt.CountersResult](t)(l.service.Counters(t.Context(), l.caller, "T-1"))
		if high := counters.Slots[dataSlot-1].High; (high > 0) != want {
			t.Errorf("evidence from %d bytes: highest authenticated counter %d", evidence, high)
		}
	}
}

func TestASaleIsReleasedAfterItsClaim(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		raw := l.sign(l.sale(1, 1234), 1)
		res := l.accept(raw)
		if res.Status != decrypt.CounterFresh || !res.Authenticated || res.Decided != 0 || res.Ack != nil || res.Recorded != nil {
			t.Errorf("head %v %v %v", res.Status, res.Authenticated, res.Decided)
		}
		if res.Digest != message.DigestOf(raw) || res.Original != res.Digest {
			t.Errorf("digests %v %v, want %v", res.Digest, res.Original, message.DigestOf(raw))
		}
		if res.Payload.Amount.Minor != 1234 || res.Payload.Terminal != "T-1" || len(res.Fields) != 2 {
			t.Fatalf("payload %+v with %d fields", res.Payload, len(res.Fields))
		}
		card, block := res.Fields[0], res.Fields[1]
		if got := string(bytes.TrimRight(card.Clear.Expose(), "\x00")); got != testTrack {
			t.Errorf("card data %q, want %q", got, testTrack)
		}
		if card.MaskedPAN != "476173******0119" || card.KeySet != "CARDS" || card.PINBlock != nil {
			t.Errorf("card field %v %v", card.MaskedPAN, card.KeySet)
		}
		if !holdsTestPIN(t, scheme, block.PINBlock) {
			t.Errorf("PIN block opens to another PIN")
		}
		if block.PINKey != l.zone() || block.PINKeyKCV == "" || block.KeySet != "PINS" || block.Clear.Len() != 0 {
			t.Errorf("PIN field %v %q %v", block.PINKey, block.PINKeyKCV, block.KeySet)
		}
		for _, f := range res.Fields {
			if f.Labels.KeyMode != engine.Software || f.Labels.PINExposure != engine.HostMemory || f.Labels.Environment != keyset.Test {
				t.Errorf("labels %v", f.Labels)
			}
		}
	})
}

// TestTheSameMessageGetsTheSameAnswer is invariant I2: a live retry and a resend release what the first one released.
func TestTheSameMessageGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	bothSchemes(t, func(t *testing.T, scheme dukpt.Scheme) {
		l := newLaboratory(t, scheme)
		raw := l.sign(l.sale(1, 1234), 1)
		first := l.accept(raw)
		retry := l.accept(raw)
		outer := l.resend(raw, 2)
		resent := l.accept(outer)
		for name, again := range map[string]*decrypt.TransactionResult{"live retry": retry, "resend": resent} {
			if again.Status != decrypt.CounterResend {
				t.Errorf("%s: counter status %v", name, again.Status)
			}
			if again.Original != first.Original || again.Payload.Sequence != first.Payload.Sequence || again.Payload.Type != message.Sale {
				t.Errorf("%s: answers another message", name)
			}
			if got, want := releasedBy(again), releasedBy(first); got != want {
				t.Errorf("%s released another answer", name)
			}
		}
		if resent.Digest != message.DigestOf(outer) {
			t.Errorf("a resend is asked for by %v, want the digest of what came", resent.Digest)
		}
	})
}

// releasedBy is everything that a result releases, as one text to compare.
func releasedBy(r *decrypt.TransactionResult) string {
	var b strings.Builder
	for _, f := range r.Fields {
		fmt.Fprintf(&b, "%d %v %v %v %x %x %v %v %s %s\n", f.Slot, f.KSN, f.Usage, f.MaskedPAN, f.Clear.Expose(), f.PINBlock, f.PINFormat, f.PINKey, f.PINKeyKCV, f.KCV)
	}
	return b.String()
}

// TestAResendMayComeFirst covers the original that was lost on the way.
func TestAResendMayComeFirst(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	raw := l.sign(l.sale(1, 1234), 1)
	res := l.accept(l.resend(raw, 2))
	if res.Status != decrypt.CounterFresh || len(res.Fields) != 2 {
		t.Errorf("resend of an unseen message: %v with %d fields", res.Status, len(res.Fields))
	}
	if again := l.accept(raw); again.Status != decrypt.CounterResend || releasedBy(again) != releasedBy(res) {
		t.Errorf("the original afterwards: %v", again.Status)
	}
}

// refusalCase breaks one thing about a message that would be answered.
type refusalCase struct {
	name string
	code decrypt.Code
	send func(*laboratory) (*decrypt.TransactionResult, error)
}

func sent(change func(*laboratory, *message.Payload)) func(*laboratory) (*decrypt.TransactionResult, error) {
	return func(l *laboratory) (*decrypt.TransactionResult, error) {
		p := l.sale(5, 1234)
		change(l, p)
		return l.send(l.sign(p, 5))
	}
}

func refusals() []refusalCase {
	tenantless := func(l *laboratory) (*decrypt.TransactionResult, error) {
		l.caller.Tenant = "OTHER"
		return l.send(l.sign(l.sale(5, 1234), 5))
	}
	request := func(change func(*decrypt.TransactionRequest)) func(*laboratory) (*decrypt.TransactionResult, error) {
		return func(l *laboratory) (*decrypt.TransactionResult, error) {
			r := decrypt.TransactionRequest{Message: l.sign(l.sale(5, 1234), 5), OutgoingPINKey: l.zone()}
			change(&r)
			return l.service.Transaction(context.Background(), l.caller, r)
		}
	}
	status := func(s keyset.Status) func(*laboratory) (*decrypt.TransactionResult, error) {
		return sent(func(l *laboratory, _ *message.Payload) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Status = s })
		})
	}
	set := func(id keyset.ID, change func(*keyset.KeySet)) func(*laboratory) (*decrypt.TransactionResult, error) {
		return sent(func(l *laboratory, _ *message.Payload) { l.books.changeSet(id, change) })
	}
	return []refusalCase{
		{"another role", decrypt.CodeRoleNotPermitted, func(l *laboratory) (*decrypt.TransactionResult, error) {
			l.caller.Role = "operator"
			return l.send(l.sign(l.sale(5, 1234), 5))
		}},
		{"no message", decrypt.CodeMessageMalformed, request(func(r *decrypt.TransactionRequest) { r.Message = nil })},
		{"truncated", decrypt.CodeMessageMalformed, request(func(r *decrypt.TransactionRequest) { r.Message = r.Message[:len(r.Message)-1] })},
		{"trailing bytes", decrypt.CodeMessageMalformed, request(func(r *decrypt.TransactionRequest) { r.Message = append(r.Message, 0) })},
		{"over-long", decrypt.CodeMessageMalformed, request(func(r *decrypt.TransactionRequest) { r.Message = make([]byte, message.MaxSize+1) })},
		{"caller of another tenant", decrypt.CodeTenantMismatch, tenantless},
		{"unknown terminal", decrypt.CodeTerminalUnknown, sent(func(l *laboratory, _ *message.Payload) { delete(l.books.terminals, "T-1") })},
		{"pending terminal", decrypt.CodeTerminalNotActive, status(keyset.StatusPending)},
		{"compromised terminal", decrypt.CodeTerminalRevoked, status(keyset.StatusCompromised)},
		{"revoked terminal", decrypt.CodeTerminalRevoked, status(keyset.StatusRevoked)},
		{"retired terminal", decrypt.CodeTerminalRevoked, status(keyset.StatusRetired)},
		{"slot that is not there", decrypt.CodeSlotUnknown, sent(func(l *laboratory, _ *message.Payload) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots = t.Slots[1:] })
		})},
		{"slot of another key id", decrypt.CodeKeyIDMismatch, sent(func(l *laboratory, _ *message.Payload) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[0].KeyID = t.Slots[1].KeyID })
		})},
		{"slot swapped in the message", decrypt.CodeKeyIDMismatch, sent(func(_ *laboratory, p *message.Payload) { p.Fields[1].Slot = dataSlot })},
		{"pending slot", decrypt.CodeSlotNotActive, sent(func(l *laboratory, _ *message.Payload) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[0].State = keyset.SlotPending })
		})},
		{"retired slot", decrypt.CodeSlotNotActive, sent(func(l *laboratory, _ *message.Payload) {
			l.books.changeTerminal(func(t *keyset.Terminal) { t.Slots[0].State = keyset.SlotRetired })
		})},
		{"unknown key set", decrypt.CodeKeySetUnknown, sent(func(l *laboratory, _ *message.Payload) { delete(l.books.sets, "PINS") })},
		{"key set of another tenant", decrypt.CodeKeySetUnknown, set("PINS", func(s *keyset.KeySet) { s.Tenant = "OTHER" })},
		{"key id outside the range", decrypt.CodeKeySetUnknown, set("PINS", func(s *keyset.KeySet) {
			s.FirstID, _ = dukpt.ParseKeyID("FFFF9876543219E00000")
			s.LastID = s.FirstID
		})},
		{"retired key set", decrypt.CodeKeySetRetired, set("PINS", func(s *keyset.KeySet) { s.State = keyset.Retired })},
		{"another environment", decrypt.CodeEnvironmentMismatch, set("PINS", func(s *keyset.KeySet) { s.Environment = keyset.Production })},
		{"another path", decrypt.CodePathNotPermitted, set("PINS", func(s *keyset.KeySet) { s.Paths = keyset.AWS })},
		{"another base key under the name", decrypt.CodeEngineUnavailable, sent(func(l *laboratory, _ *message.Payload) {
			other := must[engine.KeyInfo](l.tb)(l.ring.Engine().Describe(context.Background(), l.books.sets["CARDS"].BaseKey))
			l.books.changeSet("PINS", func(s *keyset.KeySet) { s.BaseKeyFingerprint = other.Fingerprint })
		})},
		{"MAC of another byte", decrypt.CodeMACInvalid, request(func(r *decrypt.TransactionRequest) { r.Message[len(r.Message)-1] ^= 1 })},
		{"MAC rule of another set", decrypt.CodeMACNotPermitted, set("CARDS", func(s *keyset.KeySet) { s.MAC.Padding = dukpt.MACPadding1 })},
		{"PIN block sent as data", decrypt.CodePurposeNotPermitted, sent(func(_ *laboratory, p *message.Payload) {
			f := &p.Fields[1]
			f.Usage, f.Mode, f.PINFormat = message.UsageData, dukpt.CBC, 0
		})},
		{"PIN without card data", decrypt.CodeMessageMalformed, sent(func(_ *laboratory, p *message.Payload) { p.Fields = p.Fields[1:] })},
		{"PIN block of another byte", decrypt.CodePINBlockInvalid, sent(func(_ *laboratory, p *message.Payload) { p.Fields[1].Ciphertext[0] ^= 1 })},
		{"zone key that the set does not have", decrypt.CodePINKeyNotPermitted, request(func(r *decrypt.TransactionRequest) {
			r.OutgoingPINKey, _ = keyset.ParseKeyRef("alias/zone-9")
		})},
		{"no zone key named of two", decrypt.CodePINKeyNotPermitted, request(func(r *decrypt.TransactionRequest) { r.OutgoingPINKey = keyset.KeyRef{} })},
		{"zone key that the caller may not use", decrypt.CodePINKeyNotPermitted, func(l *laboratory) (*decrypt.TransactionResult, error) {
			raw, zone := l.sign(l.sale(5, 1234), 5), l.zone()
			l.caller.PINKeys = nil
			return l.service.Transaction(context.Background(), l.caller, decrypt.TransactionRequest{Message: raw, OutgoingPINKey: zone})
		}},
		{"zone key that the engine does not have", decrypt.CodeKeyNotFound, func(l *laboratory) (*decrypt.TransactionResult, error) {
			gone, _ := keyset.ParseKeyRef("alias/zone-gone")
			l.books.changeSet("PINS", func(s *keyset.KeySet) { s.OutgoingPINKeys = append(s.OutgoingPINKeys, gone) })
			l.caller.PINKeys = append(l.caller.PINKeys, gone)
			return l.service.Transaction(context.Background(), l.caller, decrypt.TransactionRequest{Message: l.sign(l.sale(5, 1234), 5), OutgoingPINKey: gone})
		}},
		{"format that does not go with the zone key", decrypt.CodeTranslationNotPermitted, request(func(r *decrypt.TransactionRequest) { r.OutgoingPINFormat = pin.Format4 })},
		{"format without a codec", decrypt.CodeTranslationNotPermitted, request(func(r *decrypt.TransactionRequest) { r.OutgoingPINFormat = pin.Format1 })},
		{"engine gone", decrypt.CodeEngineUnavailable, sent(func(l *laboratory, _ *message.Payload) { l.engine.fail(engine.ErrUnavailable) })},
		{"call given up", decrypt.CodeEngineUnavailable, sent(func(l *laboratory, _ *message.Payload) { l.engine.fail(context.Canceled) })},
		{"far ahead", decrypt.CodeKSNOutOfWindow, func(l *laboratory) (*decrypt.TransactionResult, error) {
			return l.send(l.sign(l.sale(20_000, 1234), 20_000))
		}},
		{"KSN used with another amount", decrypt.CodeKSNReplayed, func(l *laboratory) (*decrypt.TransactionResult, error) {
			l.accept(l.sign(l.sale(5, 1), 5))
			return l.send(l.sign(l.sale(5, 1234), 5))
		}},
		{"resend of a message with another MAC", decrypt.CodeMACInvalid, func(l *laboratory) (*decrypt.TransactionResult, error) {
			inner := l.sign(l.sale(5, 1234), 5)
			inner[len(inner)-1] ^= 1
			return l.send(l.resend(inner, 6))
		}},
	}
}

// TestEveryRefusalChangesNothing is invariant I7: the honest message of the same KSN is answered afterwards as if
// nothing had been there, no error text holds a secret, and the code is the stable one.
func TestEveryRefusalChangesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range refusals() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, dukpt.TDES)
			caller := l.caller
			sets, terminals := clone(l.books.sets), clone(l.books.terminals)
			replay := c.code == decrypt.CodeKSNReplayed
			before := l.snapshot()
			res, err := c.send(l)
			r, ok := errors.AsType[*decrypt.Refusal](err)
			if !ok || r.Code != c.code || res != nil {
				t.Fatalf("got %v, %v; want the refusal %s", res, err, c.code)
			}
			if got := l.recorded(c.code); !r.Unavailable() && got != 1 {
				t.Errorf("the audit log holds %d refusals %s, want 1", got, c.code)
			}
			for _, s := range []string{testPAN, testPIN, testTrack, "9010101"} {
				if strings.Contains(err.Error(), s) || strings.Contains(l.log.String(), s) {
					t.Errorf("%q or the log holds %q", err, s)
				}
			}
			l.caller = caller
			l.books.sets, l.books.terminals = sets, terminals
			l.engine.fail(nil)
			if replay {
				return
			}
			if after := l.snapshot(); after != before {
				t.Errorf("the store changed from %s to %s", before, after)
			}
			if res := l.accept(l.sign(l.sale(5, 1), 5)); res.Status != decrypt.CounterFresh {
				t.Errorf("the honest message afterwards: %v", res.Status)
			}
		})
	}
}

func clone[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// TestASecondContentCountsAsAConflict holds what a refusal of the claims may change, and nothing else.
func TestASecondContentCountsAsAConflict(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	l.accept(l.sign(l.sale(5, 100), 5))
	before := must[*decrypt.CountersResult](t)(l.service.Counters(t.Context(), l.caller, "T-1"))
	l.refuses(l.sign(l.sale(5, 200), 5), decrypt.CodeKSNReplayed)
	after := must[*decrypt.CountersResult](t)(l.service.Counters(t.Context(), l.caller, "T-1"))
	for i := range after.Slots {
		after.Slots[i].Conflicts -= before.Slots[i].Conflicts
	}
	if pin, data := after.Slots[0], after.Slots[1]; pin.Conflicts+data.Conflicts != 1 || data.High != 5 || data.Seen != 5 || data.Remaining != dukpt.TDES.MaxOrdinal()-5 {
		t.Errorf("counters %+v", after.Slots)
	}
	if res := l.accept(l.sign(l.sale(5, 100), 5)); res.Status != decrypt.CounterResend {
		t.Errorf("the first content afterwards: %v", res.Status)
	}
}

// TestCountersAreOfTheCallersTenant keeps other tenants' terminals unknown.
func TestCountersAreOfTheCallersTenant(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	l.caller.Tenant = "OTHER"
	if _, err := l.service.Counters(t.Context(), l.caller, "T-1"); codeOf(err) != decrypt.CodeTerminalUnknown {
		t.Errorf("got %v", err)
	}
}

// TestAFieldIsNotTakenIntoAnotherMessage replays the PIN block and card of an answered sale inside a new one.
func TestAFieldIsNotTakenIntoAnotherMessage(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	first := l.sale(1, 100)
	l.accept(l.sign(first, 1))
	second := l.sale(2, 99_900)
	second.Fields = first.Fields
	l.refuses(l.sign(second, 2), decrypt.CodeKSNReplayed)
	second.Fields = l.sale(2, 1).Fields
	second.Fields[1] = first.Fields[1]
	l.refuses(l.sign(second, 2), decrypt.CodeKSNReplayed)
}

// TestAFormat4BlockIsOfItsCard moves a PIN block next to the data of another card.
func TestAFormat4BlockIsOfItsCard(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.AES)
	p := must[pin.PIN](t)(pin.ParsePIN([]byte(testPIN)))
	other := must[pin.PAN](t)(pin.ParsePAN(otherPAN))
	sale := l.sale(1, 1234)
	sale.Fields[1] = must[message.Field](t)(l.terminal.PINField(pinSlot, 1, p, other))
	l.refuses(l.sign(sale, 1), decrypt.CodePINBlockInvalid)
	if res := l.accept(l.sign(l.sale(1, 1234), 1)); res.Status != decrypt.CounterFresh {
		t.Errorf("the block check claimed the KSN: %v", res.Status)
	}
}

// TestBlockedIsHeld holds what waits and what does not.
func TestBlockedIsHeld(t *testing.T) {
	t.Parallel()
	blocks := map[string]struct {
		code  decrypt.Code
		block func(*books)
	}{
		"key set": {decrypt.CodeKeySetBlocked, func(b *books) {
			b.changeSet("PINS", func(s *keyset.KeySet) { s.State = keyset.Blocked })
		}},
		"terminal": {decrypt.CodeTerminalBlocked, func(b *books) {
			b.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusBlocked })
		}},
		"quarantine": {decrypt.CodeTerminalQuarantined, func(b *books) {
			b.changeTerminal(func(t *keyset.Terminal) { t.Status = keyset.StatusQuarantined })
		}},
	}
	for name, c := range blocks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, dukpt.TDES)
			answered, open := l.sign(l.sale(1, 100), 1), l.sign(l.sale(2, 200), 2)
			done := l.accept(answered)
			must[*decrypt.AnswerResult](t)(l.service.Answer(context.Background(), l.caller, decrypt.AnswerRequest{Digest: done.Digest, Result: message.Approved}))
			l.accept(open)
			sets, terminals := clone(l.books.sets), clone(l.books.terminals)
			c.block(l.books)

			held := l.accept(l.sign(l.sale(3, 300), 3))
			if held.Decided != message.Held || held.Code != c.code || len(held.Fields) != 0 || held.Status != decrypt.CounterNone {
				t.Errorf("a new sale: decided %v %q with %d fields", held.Decided, held.Code, len(held.Fields))
			}
			if a := l.ack(held.Ack, 3); a.Result != message.Held || !a.Answers(held.Digest) || len(a.Floors) != 2 {
				t.Errorf("ack %+v", a)
			}
			if res := l.accept(open); res.Decided != message.Held {
				t.Errorf("a message that was released and never answered: %v", res.Decided)
			}
			if res := l.accept(answered); res.Decided != 0 || res.Recorded == nil {
				t.Errorf("a message that was answered: decided %v, recorded %v", res.Decided, res.Recorded)
			}
			if res := l.accept(l.resend(answered, 4)); res.Decided != 0 || res.Recorded == nil {
				t.Errorf("a resend of it: decided %v, recorded %v", res.Decided, res.Recorded)
			}
			if res := l.accept(l.signIn(5)); res.Decided != message.SignedIn {
				t.Errorf("a sign-in: %v", res.Decided)
			}

			l.books.sets, l.books.terminals = sets, terminals
			if res := l.accept(l.sign(l.sale(3, 300), 3)); res.Status != decrypt.CounterFresh || len(res.Fields) != 2 {
				t.Errorf("the held sale after the block: %v", res.Status)
			}
		})
	}
}

// TestOldMessagesAreToldSo covers what the service answers by itself about a KSN.
func TestOldMessagesAreToldSo(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	for _, ordinal := range []uint32{1, 5000} {
		l.accept(l.sign(l.sale(ordinal, 100), ordinal))
	}
	res := l.accept(l.sign(l.sale(500, 100), 500))
	if res.Decided != message.KsnTooOld || res.Code != decrypt.CodeKSNTooOld || len(res.Fields) != 0 {
		t.Fatalf("below the window: %v %q", res.Decided, res.Code)
	}
	a := l.ack(res.Ack, 500)
	floor, ok := a.Floor(dataSlot, l.books.sets["CARDS"].FirstID)
	if a.Result != message.KsnTooOld || !ok || floor != 5000-keyset.DefaultWindow {
		t.Errorf("ack %v floor %d", a.Result, floor)
	}
	if again := l.accept(l.sign(l.sale(1, 100), 1)); again.Status != decrypt.CounterResend || len(again.Fields) != 2 {
		t.Errorf("a claimed message below the window: %v", again.Status)
	}
}
