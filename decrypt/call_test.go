package decrypt_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// base is the base key of a slot of the laboratory, and its key set.
func (l *laboratory) base(slot uint8) (keyset.KeyRef, *keyset.KeySet) {
	id := keyset.ID("PINS")
	if slot == dataSlot {
		id = "CARDS"
	}
	set, _ := l.books.KeySet(id)
	return set.BaseKey, set
}

// key is the transaction key of a slot at an ordinal.
func (l *laboratory) key(slot uint8, ordinal uint32) decrypt.CallKey {
	l.tb.Helper()
	base, _ := l.base(slot)
	return decrypt.CallKey{Base: base, KSN: must[dukpt.KSN](l.tb)(l.terminal.KSN(slot, ordinal))}
}

// card is the track data of a terminal at an ordinal, and the call that decrypts it.
func (l *laboratory) card(ordinal uint32, track string) decrypt.DataCall {
	l.tb.Helper()
	f := must[message.Field](l.tb)(l.terminal.DataField(dataSlot, ordinal, []byte(track)))
	return decrypt.DataCall{Key: l.key(dataSlot, ordinal), Direction: dukpt.Request, Mode: f.Mode, IV: f.IV, Data: f.Ciphertext}
}

// pinCall is a PIN block of the terminal at an ordinal, and the call that translates it.
func (l *laboratory) pinCall(ordinal uint32) decrypt.PINCall {
	l.tb.Helper()
	p := must[pin.PIN](l.tb)(pin.ParsePIN([]byte(testPIN)))
	pan := must[pin.PAN](l.tb)(pin.ParsePAN(testPAN))
	f := must[message.Field](l.tb)(l.terminal.PINField(pinSlot, ordinal, p, pan))
	return decrypt.PINCall{
		Key: l.key(pinSlot, ordinal), Block: f.Ciphertext, Format: f.PINFormat, PAN: pan, Outgoing: l.zone(), ToFormat: f.PINFormat, ToPAN: pan,
	}
}

// signed is a message of the terminal whose MAC a call verifies.
func (l *laboratory) signed(ordinal uint32, cents int64) decrypt.MACCall {
	l.tb.Helper()
	m := must[*message.Message](l.tb)(message.Parse(l.sign(l.sale(ordinal, cents), ordinal)))
	_, set := l.base(dataSlot)
	return decrypt.MACCall{
		Key: l.key(dataSlot, ordinal), Direction: dukpt.Request, Algorithm: set.MAC.Algorithm, Message: m.PayloadBytes, MAC: m.MAC,
	}
}

func both(t *testing.T, f func(*testing.T, *laboratory)) {
	t.Helper()
	for _, scheme := range []dukpt.Scheme{dukpt.TDES, dukpt.AES} {
		t.Run(scheme.String(), func(t *testing.T) {
			t.Parallel()
			f(t, newLaboratory(t, scheme))
		})
	}
}

// TestCallsClaim: each call releases one content, the same again alike, and nothing else under its KSN.
func TestCallsClaim(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, l *laboratory) {
		ctx := t.Context()
		first := must[*decrypt.CallResult](t)(l.service.DecryptData(ctx, l.caller, l.card(1, testTrack)))
		again := must[*decrypt.CallResult](t)(l.service.DecryptData(ctx, l.caller, l.card(1, testTrack)))
		if first.Status != decrypt.CounterFresh || again.Status != decrypt.CounterResend || !bytes.Equal(first.Output.Expose(), again.Output.Expose()) ||
			!bytes.HasPrefix(first.Output.Expose(), []byte(testTrack)) || first.Authenticated {
			t.Errorf("data: %v, then %v", first.Status, again.Status)
		}
		if _, err := l.service.DecryptData(ctx, l.caller, l.card(1, ";5413330089020011=2212")); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("other data: %v", err)
		}
		entered := l.pinCall(1)
		moved := must[*decrypt.CallResult](t)(l.service.TranslatePIN(ctx, l.caller, entered))
		repeated := must[*decrypt.CallResult](t)(l.service.TranslatePIN(ctx, l.caller, entered))
		if moved.Status != decrypt.CounterFresh || repeated.Status != decrypt.CounterResend || !bytes.Equal(moved.Output.Expose(), repeated.Output.Expose()) {
			t.Errorf("PIN: %v, then %v", moved.Status, repeated.Status)
		}
		req := l.signed(1, 100)
		verified := must[*decrypt.CallResult](t)(l.service.VerifyMAC(ctx, l.caller, req))
		if verified.Status != decrypt.CounterFresh || !verified.Authenticated || verified.Output.Len() != 0 {
			t.Errorf("MAC: %v, authenticated %v", verified.Status, verified.Authenticated)
		}
		if _, err := l.service.VerifyMAC(ctx, l.caller, l.signed(1, 200)); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("another message: %v", err)
		}
		req.MAC = append(slices.Clone(req.MAC[:len(req.MAC)-1]), req.MAC[len(req.MAC)-1]^1)
		if _, err := l.service.VerifyMAC(ctx, l.caller, req); codeOf(err) != decrypt.CodeMACInvalid {
			t.Errorf("a wrong MAC: %v", err)
		}
	})
}

// TestCallsAndMessagesMeet: what one of the two ways has released, the other refuses to release as something else.
func TestCallsAndMessagesMeet(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, l *laboratory) {
		ctx := t.Context()
		l.accept(l.sign(l.sale(1, 100), 1))
		if _, err := l.service.DecryptData(ctx, l.caller, l.card(1, ";5413330089020011=2212")); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("other data than in the message: %v", err)
		}
		m := must[*message.Message](t)(message.Parse(l.sign(l.sale(2, 100), 2)))
		f := m.Payload.Fields[0]
		req := decrypt.DataCall{Key: l.key(dataSlot, 2), Direction: dukpt.Request, Mode: f.Mode, IV: f.IV, Data: f.Ciphertext}
		must[*decrypt.CallResult](t)(l.service.DecryptData(ctx, l.caller, req))
		l.refuses(m.Raw, decrypt.CodeKSNReplayed) // its card data is out already
		seen := must[*message.Message](t)(message.Parse(l.sign(l.sale(3, 100), 3)))
		_, set := l.base(dataSlot)
		must[*decrypt.CallResult](t)(l.service.VerifyMAC(ctx, l.caller, decrypt.MACCall{
			Key: l.key(dataSlot, 3), Direction: dukpt.Request, Algorithm: set.MAC.Algorithm, Message: seen.PayloadBytes, MAC: seen.MAC,
		}))
		l.refuses(seen.Raw, decrypt.CodeKSNReplayed)
		err := l.store.EachCounter(ctx, func(_ decrypt.CounterKey, s decrypt.KeyIDState) error {
			if s.Evidence != 0 {
				t.Errorf("what callers have shown first is evidence against the terminal: %+v", s)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		l.accept(l.sign(l.sale(4, 100), 4))
		graft := l.sale(5, 100)
		graft.Fields[1] = must[*message.Message](t)(message.Parse(l.sign(l.sale(4, 100), 4))).Payload.Fields[1]
		l.refuses(l.sign(graft, 5), decrypt.CodeKSNReplayed)
		evidence := uint64(0)
		_ = l.store.EachCounter(ctx, func(_ decrypt.CounterKey, s decrypt.KeyIDState) error {
			evidence += s.Evidence
			return nil
		})
		if evidence != 1 {
			t.Errorf("a PIN of one message in another is evidence %d times, want once", evidence)
		}
	})
}

// TestResponses: what the host makes for a terminal has one content a KSN, and the host makes nothing as if by a terminal.
func TestResponses(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, l *laboratory) {
		ctx := t.Context()
		req := decrypt.DataCall{Key: l.key(dataSlot, 1), Direction: dukpt.Response, Mode: dukpt.CBC, Data: bytes.Repeat([]byte{7}, 32)}
		first := must[*decrypt.CallResult](t)(l.service.EncryptData(ctx, l.caller, req))
		again := must[*decrypt.CallResult](t)(l.service.EncryptData(ctx, l.caller, req))
		if first.Status != decrypt.CounterFresh || again.Status != decrypt.CounterResend || !bytes.Equal(first.Output.Expose(), again.Output.Expose()) {
			t.Errorf("%v, then %v", first.Status, again.Status)
		}
		other := req
		other.Data = bytes.Repeat([]byte{8}, 32)
		if _, err := l.service.EncryptData(ctx, l.caller, other); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("other data for the terminal: %v", err)
		}
		for _, d := range []dukpt.Direction{dukpt.Request, dukpt.Both, 0} {
			other.Direction = d
			if _, err := l.service.EncryptData(ctx, l.caller, other); codeOf(err) != decrypt.CodeDirectionNotPermitted {
				t.Errorf("direction %v: %v", d, err)
			}
		}
		card := l.card(3, testTrack)
		card.Direction = dukpt.Response
		if _, err := l.service.DecryptData(ctx, l.caller, card); codeOf(err) != decrypt.CodeDirectionNotPermitted {
			t.Errorf("decryption of a response: %v", err)
		}
		_, set := l.base(dataSlot)
		made := decrypt.MACCall{Key: l.key(dataSlot, 1), Direction: dukpt.Response, Algorithm: set.MAC.Algorithm, Message: []byte("approved")}
		if mac := must[*decrypt.CallResult](t)(l.service.GenerateMAC(ctx, l.caller, made)); mac.Output.Len() != set.MAC.Length || mac.Authenticated {
			t.Errorf("a MAC of %d bytes", mac.Output.Len())
		}
		made.Message = []byte("declined")
		if _, err := l.service.GenerateMAC(ctx, l.caller, made); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("a second message: %v", err)
		}
		for _, call := range []func() (*decrypt.CallResult, error){
			func() (*decrypt.CallResult, error) {
				r := made
				r.Direction = dukpt.Request
				return l.service.GenerateMAC(ctx, l.caller, r)
			},
			func() (*decrypt.CallResult, error) {
				r := made
				r.Direction = dukpt.Response
				return l.service.VerifyMAC(ctx, l.caller, r)
			},
		} {
			if _, err := call(); codeOf(err) != decrypt.CodeDirectionNotPermitted {
				t.Errorf("the wrong direction: %v", err)
			}
		}
	})
}

// TestNoAckIsMade: a host cannot get the MAC of an ack that the service did not make.
func TestNoAckIsMade(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.AES)
	res := l.accept(l.sign(l.sale(1, 100), 1))
	answer := must[*decrypt.AnswerResult](t)(l.service.Answer(t.Context(), l.caller, decrypt.AnswerRequest{Digest: res.Digest, Result: message.Declined}))
	ack := must[*message.AckMessage](t)(message.ParseAck(answer.Ack))
	ack.Payload.Result = message.Approved
	forged := must[[]byte](t)(message.EncodeAck(ack.Payload))
	_, set := l.base(dataSlot)
	req := decrypt.MACCall{Key: l.key(dataSlot, 1), Direction: dukpt.Response, Algorithm: set.MAC.Algorithm, Message: forged}
	if _, err := l.service.GenerateMAC(t.Context(), l.caller, req); codeOf(err) != decrypt.CodePurposeNotPermitted {
		t.Errorf("the MAC of a forged ack: %v", err)
	}
}

// TestNoAckBehindZeros: padding with zeros gives a message and the same with zeros behind it one MAC. It would be that of an ack.
func TestNoAckBehindZeros(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	res := l.accept(l.sign(l.sale(1, 100), 1))
	answer := must[*decrypt.AnswerResult](t)(l.service.Answer(t.Context(), l.caller, decrypt.AnswerRequest{Digest: res.Digest, Result: message.Declined}))
	payload := must[*message.AckMessage](t)(message.ParseAck(answer.Ack)).Payload
	payload.Result = message.Approved
	l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.MAC.Padding = dukpt.MACPadding1 })
	_, set := l.base(dataSlot)
	made := func(n uint32, msg []byte) decrypt.Code {
		req := decrypt.MACCall{Key: l.key(dataSlot, n), Direction: dukpt.Response, Algorithm: set.MAC.Algorithm, Message: msg}
		_, err := l.service.GenerateMAC(t.Context(), l.caller, req)
		return codeOf(err)
	}
	refused := 0
	for size := range 16 {
		payload.Body = bytes.Repeat([]byte{'x'}, size)
		ack := must[[]byte](t)(message.EncodeAck(payload))
		for zeros := range 8 - (len(ack)+7)%8 {
			if got := made(1, append(bytes.Clone(ack), make([]byte, zeros)...)); got != decrypt.CodePurposeNotPermitted {
				t.Errorf("an ack of %d bytes with %d zeros behind it: %q", len(ack), zeros, got)
			}
			refused++
		}
	}
	if refused < 50 {
		t.Errorf("%d acks were tried", refused)
	}
	for i, text := range []string{"no ack", "no ack\x00", "\x00\x00", strings.Repeat("\x00", 17)} {
		if got := made(uint32(10+i), []byte(text)); got != "no error" {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// TestNoResponseUnderRequestKeys: profiles with one data key for both directions.
func TestNoResponseUnderRequestKeys(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.TDES)
	req := decrypt.DataCall{Key: l.key(dataSlot, 1), Direction: dukpt.Response, Mode: dukpt.ECB, Data: make([]byte, 16)}
	for _, p := range []keyset.Profile{keyset.ProfileMagTek, keyset.ProfileBareKey} {
		l.books.changeSet("CARDS", func(s *keyset.KeySet) { s.Profile = p })
		if _, err := l.service.EncryptData(t.Context(), l.caller, req); codeOf(err) != decrypt.CodeDirectionNotPermitted {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// TestReEncryption: the clear data of a terminal goes to a terminal, both keys in one claim.
func TestReEncryption(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, l *laboratory) {
		ctx := t.Context()
		to := decrypt.DataCall{Key: l.key(dataSlot, 9), Direction: dukpt.Response, Mode: dukpt.CBC}
		first := must[*decrypt.CallResult](t)(l.service.ReEncryptData(ctx, l.caller, l.card(1, testTrack), to))
		again := must[*decrypt.CallResult](t)(l.service.ReEncryptData(ctx, l.caller, l.card(1, testTrack), to))
		if first.Status != decrypt.CounterFresh || again.Status != decrypt.CounterResend || !bytes.Equal(first.Output.Expose(), again.Output.Expose()) {
			t.Errorf("%v, then %v", first.Status, again.Status)
		}
		if _, err := l.service.DecryptData(ctx, l.caller, l.card(1, testTrack)); codeOf(err) != decrypt.CodeTreatmentDiffers {
			t.Errorf("the same data in the clear: %v", err)
		}
		elsewhere := to
		elsewhere.Key = l.key(dataSlot, 10)
		if _, err := l.service.ReEncryptData(ctx, l.caller, l.card(1, testTrack), elsewhere); codeOf(err) != decrypt.CodeTreatmentDiffers {
			t.Errorf("for another KSN: %v", err)
		}
	})
}

// TestPINCallsAreBound: the two PANs are one, and the zone key is listed.
func TestPINCallsAreBound(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, l *laboratory) {
		ctx := t.Context()
		before := l.snapshot()
		good := l.pinCall(1)
		for name, c := range map[string]struct {
			change func(*decrypt.PINCall)
			code   decrypt.Code
		}{
			"another PAN":   {func(c *decrypt.PINCall) { c.ToPAN = must[pin.PAN](t)(pin.ParsePAN(otherPAN)) }, decrypt.CodeTranslationNotPermitted},
			"no PAN":        {func(c *decrypt.PINCall) { c.PAN, c.ToPAN = pin.PAN{}, pin.PAN{} }, decrypt.CodeTranslationNotPermitted},
			"format 1":      {func(c *decrypt.PINCall) { c.Format = pin.Format1 }, decrypt.CodeNotSupported},
			"to format 1":   {func(c *decrypt.PINCall) { c.ToFormat = pin.Format1 }, decrypt.CodeTranslationNotPermitted},
			"a short block": {func(c *decrypt.PINCall) { c.Block = c.Block[1:] }, decrypt.CodeRequestMalformed},
			"no zone key":   {func(c *decrypt.PINCall) { c.Outgoing = keyset.KeyRef{} }, decrypt.CodePINKeyNotPermitted},
			"a base key":    {func(c *decrypt.PINCall) { c.Outgoing = c.Key.Base }, decrypt.CodePINKeyNotPermitted},
			"the data key":  {func(c *decrypt.PINCall) { c.Key = l.key(dataSlot, 1) }, decrypt.CodePurposeNotPermitted},
			"a zone key":    {func(c *decrypt.PINCall) { c.Key.Base = l.zone() }, decrypt.CodeNotSupported},
		} {
			req := good
			c.change(&req)
			if _, err := l.service.TranslatePIN(ctx, l.caller, req); codeOf(err) != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
		}
		if after := l.snapshot(); after != before {
			t.Errorf("refusals changed\n%s\nto\n%s", before, after)
		}
		id := must[keyset.KeyRef](t)(l.engine.Resolve(ctx, l.zone()))
		good.Outgoing = id
		if res := must[*decrypt.CallResult](t)(l.service.TranslatePIN(ctx, l.caller, good)); res.Key.ID != id || res.Labels.PINExposure == 0 {
			t.Errorf("by identifier: under %v", res.Key.ID)
		}
	})
}

// TestPINDigitsAreNotGuessed: a caller names the PAN, and whether a block opens with it depends on digits of the PIN. Under one KSN it
// learns that of one PAN, and nothing of any other, whatever the first answer was, and from any replica.
func TestPINDigitsAreNotGuessed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, l *laboratory) {
		ctx := t.Context()
		calls := map[uint32]decrypt.PINCall{1: l.pinCall(1), 2: l.pinCall(2)}
		guess := func(n uint32, pan string) decrypt.Code {
			req := calls[n]
			req.PAN = must[pin.PAN](t)(pin.ParsePAN(pan))
			req.ToPAN = req.PAN
			_, err := l.service.TranslatePIN(ctx, l.caller, req)
			return codeOf(err)
		}
		wrong := 0
		for n := uint32(1); n <= 2; n++ { // one KSN whose first PAN is that of others, and one whose first is right
			if n == 2 {
				must[*decrypt.CallResult](t)(l.service.TranslatePIN(ctx, l.caller, calls[n]))
			} else if got := guess(n, otherPAN); got != decrypt.CodePINBlockInvalid {
				t.Fatalf("the PAN of others: %s", got)
			}
			for i := range 200 {
				if got := guess(n, fmt.Sprintf("54133300%07d0", 8903000+i)); got != decrypt.CodeKSNReplayed {
					wrong++
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%d of 400 guesses were told something", wrong)
		}
		if got := guess(1, otherPAN); got != decrypt.CodePINBlockInvalid {
			t.Errorf("the first one again: %s", got)
		}
		if _, err := l.service.TranslatePIN(ctx, l.caller, calls[1]); codeOf(err) != decrypt.CodeKSNReplayed {
			t.Errorf("the right PAN after another: %v", err)
		}
		changed := l.pinCall(3)
		changed.Block = append([]byte{changed.Block[0] ^ 1}, changed.Block[1:]...)
		if _, err := l.service.TranslatePIN(ctx, l.caller, changed); codeOf(err) != decrypt.CodePINBlockInvalid {
			t.Errorf("a changed block: %v", err)
		}
		if n := l.recorded(decrypt.CodePINBlockInvalid); n != 3 {
			t.Errorf("%d records of blocks that do not open, want 3", n)
		}
	})
}

// TestWhoGetsNoCall: sets, terminals and slots that may not be used, and no registry, give nothing and claim nothing.
func TestWhoGetsNoCall(t *testing.T) {
	t.Parallel()
	set := func(change func(*keyset.KeySet)) func(*laboratory, *office) {
		return func(l *laboratory, _ *office) { l.books.changeSet("CARDS", change) }
	}
	terminal := func(change func(*keyset.Terminal)) func(*laboratory, *office) {
		return func(l *laboratory, _ *office) { l.books.changeTerminal(change) }
	}
	status := func(s keyset.Status) func(*laboratory, *office) {
		return terminal(func(t *keyset.Terminal) { t.Status = s })
	}
	for name, c := range map[string]struct {
		change func(*laboratory, *office)
		code   decrypt.Code
	}{
		"a native set":       {set(func(s *keyset.KeySet) { s.Paths = keyset.Native }), decrypt.CodePathNotPermitted},
		"a blocked set":      {set(func(s *keyset.KeySet) { s.State = keyset.Blocked }), decrypt.CodeKeySetBlocked},
		"a retired set":      {set(func(s *keyset.KeySet) { s.State = keyset.Retired }), decrypt.CodeKeySetRetired},
		"production":         {set(func(s *keyset.KeySet) { s.Environment = keyset.Production }), decrypt.CodeEnvironmentMismatch},
		"another tenant":     {set(func(s *keyset.KeySet) { s.Tenant = "OTHER" }), decrypt.CodeKeySetUnknown},
		"blocked":            {status(keyset.StatusBlocked), decrypt.CodeTerminalBlocked},
		"quarantined":        {status(keyset.StatusQuarantined), decrypt.CodeTerminalQuarantined},
		"pending":            {status(keyset.StatusPending), decrypt.CodeTerminalNotActive},
		"revoked":            {status(keyset.StatusRevoked), decrypt.CodeTerminalRevoked},
		"a pending slot":     {terminal(func(t *keyset.Terminal) { t.Slots[1].State = keyset.SlotPending }), decrypt.CodeSlotNotActive},
		"no terminal":        {terminal(func(t *keyset.Terminal) { t.Slots = t.Slots[:1] }), decrypt.CodeTerminalUnknown},
		"no word of anybody": {func(_ *laboratory, o *office) { o.stale = context.DeadlineExceeded }, decrypt.CodeRegistryStale},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, o := registered(t, dukpt.AES)
			req := l.card(1, testTrack)
			before := l.snapshot()
			c.change(l, o)
			if _, err := l.service.DecryptData(t.Context(), l.caller, req); codeOf(err) != c.code {
				t.Errorf("%v, want %s", err, c.code)
			}
			if after := l.snapshot(); after != before {
				t.Errorf("claims changed to\n%s", after)
			}
			if n := l.recorded(c.code); n != 1 && c.code != decrypt.CodeRegistryStale {
				t.Errorf("%d records of the refusal", n)
			}
			for _, leaf := range l.store.(*storetest.Model).Contents().Leaves {
				if !strings.HasSuffix(leaf.Object, req.Key.KSN.String()) || leaf.Action != "decrypt-data" || leaf.Actor != "ACQ-1" {
					t.Errorf("the record is about %q, %q of %q", leaf.Action, leaf.Object, leaf.Actor)
				}
			}
		})
	}
}

// TestCallsNeedTheirRecord: without the store, which keeps the audit log, nothing is released.
func TestCallsNeedTheirRecord(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Claim", "Audit"} {
		l := newLaboratory(t, dukpt.AES)
		s := l.with(&faultyStore{Store: l.store, method: method, err: context.DeadlineExceeded})
		req := l.card(1, testTrack)
		if method == "Audit" {
			req.Direction = dukpt.Response // a refusal
		}
		if res, err := s.DecryptData(t.Context(), l.caller, req); res != nil || codeOf(err) != decrypt.CodeStoreUnavailable {
			t.Errorf("%s fails: %v, %v", method, res, err)
		}
	}
}

// TestMACsAreEvidence: a MAC that is long enough moves the counter, a further message under its KSN is evidence, and both are told.
func TestMACsAreEvidence(t *testing.T) {
	t.Parallel()
	l, o := registered(t, dukpt.AES)
	must[*decrypt.CallResult](t)(l.service.VerifyMAC(t.Context(), l.caller, l.signed(5, 100)))
	if len(o.uses) != 1 || o.uses[0].Ordinal != 5 || o.uses[0].Terminal != "T-1" {
		t.Errorf("uses %+v", o.uses)
	}
	if _, err := l.service.VerifyMAC(t.Context(), l.caller, l.signed(5, 101)); codeOf(err) != decrypt.CodeKSNReplayed || len(o.suspects) != 1 {
		t.Errorf("%v with suspects %v", err, o.suspects)
	}
	short := l.signed(6, 100)
	short.MAC = short.MAC[:4]
	if _, err := l.service.VerifyMAC(t.Context(), l.caller, short); codeOf(err) != decrypt.CodeMACNotPermitted {
		t.Errorf("a MAC that is cut: %v", err)
	}
}

// TestCallsOfStrangers: who has no role gets nothing.
func TestCallsOfStrangers(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, dukpt.AES)
	req := l.card(1, testTrack)
	for _, caller := range []decrypt.Caller{{}, {Tenant: "ACME", Name: "X", Role: "auditor"}} {
		if _, err := l.service.DecryptData(t.Context(), caller, req); codeOf(err) != decrypt.CodeRoleNotPermitted {
			t.Errorf("%v: %v", caller.Role, err)
		}
	}
	l.caller.Tenant = "OTHER"
	if _, err := l.service.DecryptData(t.Context(), l.caller, req); codeOf(err) != decrypt.CodeKeySetUnknown {
		t.Errorf("another tenant: %v", err)
	}
}
