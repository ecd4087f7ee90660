package message

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// examplePayload returns a valid sale with a PIN block and card data.
func examplePayload() *Payload {
	ksn := must(dukpt.ParseKSNHex("FFFF9876543210E00001"))
	data := must(dukpt.ParseKSNHex("FFFF9876543220E00001"))
	return &Payload{
		Version: FormatVersion, Type: Sale, Environment: keyset.Test, Tenant: "SHOP", Terminal: "T-0001",
		BootCounter: 1, Sequence: 2, Time: 1767225600,
		MAC: MACRef{Slot: 1, KSN: ksn, Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding2, Length: 8},
		Fields: []Field{
			{Slot: 1, KSN: ksn, Usage: UsagePIN, PINFormat: pin.Format0, Ciphertext: make([]byte, 8)},
			{Slot: 2, KSN: data, Usage: UsageData, Mode: dukpt.CBC, Ciphertext: make([]byte, 40)},
		},
		Amount: &Amount{Minor: 1234, Currency: must(ParseCurrency("EUR")), Exponent: 2},
		Body:   []byte("table 7"),
	}
}

// resendOf returns a resend of the message under a KSN of its own.
func resendOf(message []byte) *Payload {
	p := examplePayload()
	p.Type, p.Fields, p.Amount, p.Body = Resend, nil, nil, nil
	p.MAC.KSN = must(dukpt.ParseKSNHex("FFFF9876543210E00002"))
	p.Inner = message
	return p
}

func exampleAck() *AckPayload {
	return &AckPayload{
		Version: FormatVersion, Result: Approved, Digests: []Digest{{1}},
		Floors:   []SlotFloor{{Slot: 1, KeyID: must(dukpt.ParseKeyID("1234567890123456")), Floor: 7}},
		HostTime: 1767225601, Body: []byte("auth 123456"),
	}
}

func TestParseGivesWhatWasEncoded(t *testing.T) {
	t.Parallel()
	p := examplePayload()
	raw := assembled(t, p)
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Payload, p) {
		t.Errorf("got %s, want %s", describe(m.Payload), describe(p))
	}
	if m.Inner != nil {
		t.Error("a sale has something inside")
	}
	if got := m.Digests(); len(got) != 1 || got[0] != DigestOf(raw) {
		t.Errorf("digests %v", got)
	}
}

func TestParseKeepsItsOwnBytes(t *testing.T) {
	t.Parallel()
	raw := assembled(t, examplePayload())
	given := bytes.Clone(raw)
	m, err := Parse(given)
	if err != nil {
		t.Fatal(err)
	}
	clear(given)
	again, err := Encode(m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Raw, raw) || !bytes.Equal(Assemble(again, m.MAC), raw) || !bytes.Equal(m.PayloadBytes, again) {
		t.Error("the message changed with the caller's buffer")
	}
}

// TestEveryFlippedBit flips each bit of a message: what is still a message says something else, so that no two
// spellings mean the same.
func TestEveryFlippedBit(t *testing.T) {
	t.Parallel()
	for _, raw := range seeds(t) {
		seen := map[string]bool{string(raw): true}
		for i := range raw {
			for bit := range 8 {
				changed := bytes.Clone(raw)
				changed[i] ^= 1 << bit
				m, err := Parse(changed)
				if err != nil {
					if !errors.Is(err, ErrMessage) {
						t.Fatalf("byte %d bit %d: %v is no ErrMessage", i, bit, err)
					}
					continue
				}
				payload, err := Encode(m.Payload)
				if err != nil {
					t.Fatal(err)
				}
				key := string(Assemble(payload, m.MAC))
				if seen[key] {
					t.Fatalf("byte %d bit %d: two spellings of one message", i, bit)
				}
				seen[key] = true
			}
		}
	}
}

func TestEveryTruncation(t *testing.T) {
	t.Parallel()
	for _, raw := range seeds(t) {
		for n := range raw {
			if _, err := Parse(raw[:n]); !errors.Is(err, ErrMessage) {
				t.Fatalf("%d of %d bytes: %v, want an ErrMessage", n, len(raw), err)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	big := examplePayload()
	big.Body = make([]byte, MaxBody)
	big.Fields[1].Ciphertext = make([]byte, MaxCiphertext)
	raw := assembled(t, big)
	if _, err := Parse(raw); err != nil {
		t.Errorf("body and ciphertext at their limits: %v", err)
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("MaxSize and a byte: %v", err)
	}

	// Grow a second field until the message is too long for a resend, and see that Encode stops exactly there.
	third := big.Fields[1]
	third.KSN = must(dukpt.ParseKSNHex("FFFF9876543220E00002"))
	last := 0
	for n := 8; n <= MaxCiphertext; n += 8 {
		third.Ciphertext = make([]byte, n)
		p := *big
		p.Fields = append(append([]Field(nil), big.Fields...), third)
		b, err := Encode(&p)
		if err != nil {
			break
		}
		raw := Assemble(b, make([]byte, 8))
		if len(raw) > MaxInner {
			t.Fatalf("Encode lets a message of %d bytes through, want at most %d", len(raw), MaxInner)
		}
		last = len(raw)
		if n > MaxCiphertext-64 {
			t.Fatal("Encode never refused")
		}
	}
	if last < MaxInner-32 {
		t.Errorf("Encode stopped at %d bytes, want about %d", last, MaxInner)
	}
}

func TestLongestMessageFitsIntoResend(t *testing.T) {
	t.Parallel()
	p := examplePayload()
	p.Tenant = keyset.TenantID(strings.Repeat("T", 32))
	p.Terminal = keyset.TerminalID(strings.Repeat("T", 32))
	p.Environment = keyset.Production
	p.BootCounter, p.Sequence, p.Time = 1<<63, 1<<63, maxTime
	p.MAC = MACRef{Slot: 16, KSN: must(dukpt.ParseKSNHex("123456789012345600000001")), Algorithm: dukpt.MACCMAC, Length: 16}
	p.Body = make([]byte, MaxBody)
	p.Fields[0].Ciphertext = make([]byte, 8)
	p.Fields[1].Ciphertext = make([]byte, MaxCiphertext)
	third := p.Fields[1]
	third.KSN = must(dukpt.ParseKSNHex("FFFF9876543220E00002"))
	p.Fields = append(p.Fields, third)
	var raw []byte
	for n := MaxCiphertext; n > 0 && raw == nil; n -= 8 {
		p.Fields[2].Ciphertext = make([]byte, n)
		if b, err := Encode(p); err == nil {
			raw = Assemble(b, make([]byte, 16))
		}
	}
	r := *p
	r.Type, r.Fields, r.Amount, r.Body = Resend, nil, nil, nil
	r.MAC.KSN = must(dukpt.ParseKSNHex("123456789012345600000002"))
	r.Offline, r.Queued = true, true
	r.Inner = raw
	outer := assembled(t, &r)
	m, err := Parse(outer)
	if err != nil {
		t.Fatalf("a resend of %d bytes: %v", len(raw), err)
	}
	want := []Digest{DigestOf(outer), DigestOf(raw)}
	if got := m.Digests(); !reflect.DeepEqual(got, want) {
		t.Errorf("digests %v, want %v", got, want)
	}
}

func aesMAC(a dukpt.MACAlgorithm, p dukpt.MACPadding) MACRef {
	return MACRef{Slot: 1, KSN: must(dukpt.ParseKSNHex("123456789012345600000001")), Algorithm: a, Padding: p, Length: 8}
}

// TestWireKnowsFewerMACs spells MACs that package dukpt can compute into a message, past Encode.
func TestWireKnowsFewerMACs(t *testing.T) {
	t.Parallel()
	good := assembled(t, examplePayload())
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	name := []byte("ISO9797_ALGORITHM3")
	for _, other := range []string{"ISO9797_ALGORITHM1", "ISO9797_ALGORITHM2"} { // the first goes with padding 3
		bad := bytes.Replace(bytes.Clone(good), name, []byte(other), 1)
		if bytes.Equal(bad, good) {
			t.Fatal("the example has no retail MAC")
		}
		if m, err := Parse(bad); !errors.Is(err, ErrMessage) || m != nil {
			t.Errorf("%s: %v, want an ErrMessage", other, err)
		}
	}
	padding := []byte("gpadding")
	at := bytes.Index(good, padding) + len(padding)
	for v := range byte(8) {
		bad := bytes.Clone(good)
		bad[at] = v
		if _, err := Parse(bad); (err == nil) != (v >= 1 && v <= 3) || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("padding %d: %v", v, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	sale := assembled(t, examplePayload())
	for name, change := range map[string]func(*Payload){
		"zero value":        func(p *Payload) { *p = Payload{} },
		"ack":               func(p *Payload) { p.Type = Ack },
		"type 99":           func(p *Payload) { p.Type = 99 },
		"environment 9":     func(p *Payload) { p.Environment = 9 },
		"no MAC":            func(p *Payload) { p.MAC = MACRef{} },
		"MAC without KSN":   func(p *Payload) { p.MAC.KSN = dukpt.KSN{} },
		"MAC algorithm 9":   func(p *Payload) { p.MAC.Algorithm = 9 },
		"CMAC of 9 bytes":   func(p *Payload) { p.MAC.Algorithm, p.MAC.Padding, p.MAC.Length = dukpt.MACCMAC, 0, 9 },
		"algorithm 1":       func(p *Payload) { p.MAC.Algorithm = dukpt.MACCBC },
		"padding 4":         func(p *Payload) { p.MAC.Padding = dukpt.MACPadding3 + 1 },
		"HMAC under TDES":   func(p *Payload) { p.MAC.Algorithm, p.MAC.Padding = dukpt.MACHMACSHA256, 0 },
		"HMAC of 8 bytes":   func(p *Payload) { p.MAC = aesMAC(dukpt.MACHMACSHA256, 0) },
		"HMAC of 17 bytes":  func(p *Payload) { p.MAC = aesMAC(dukpt.MACHMACSHA256, 0); p.MAC.Length = 17 },
		"HMAC-SHA-384":      func(p *Payload) { p.MAC = aesMAC(dukpt.MACHMACSHA384, 0); p.MAC.Length = 24 },
		"retail under AES":  func(p *Payload) { p.MAC = aesMAC(dukpt.MACRetail, dukpt.MACPadding2) },
		"padded CMAC":       func(p *Payload) { p.MAC = aesMAC(dukpt.MACCMAC, dukpt.MACPadding2) },
		"field without KSN": func(p *Payload) { p.Fields[0].KSN = dukpt.KSN{} },
		"zero field":        func(p *Payload) { p.Fields[0] = Field{} },
		"mode 9":            func(p *Payload) { p.Fields[1].Mode = 9 },
		"PIN format 9":      func(p *Payload) { p.Fields[0].PINFormat = 9 },
		"zero currency":     func(p *Payload) { p.Amount.Currency = Currency{} },
		"zero original":     func(p *Payload) { p.Type = Void; p.Fields = nil; p.Original = &Original{} },
		"resend of itself":  func(p *Payload) { *p = *resendOf(assembled(t, resendOf(sale))) },
		"resend and body":   func(p *Payload) { *p = *resendOf(sale); p.Body = []byte{1} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := examplePayload()
			change(p)
			b, err := Encode(p)
			if !errors.Is(err, ErrMessage) || b != nil {
				t.Errorf("Encode gave %x, %v, want an ErrMessage", b, err)
			}
		})
	}
}

func TestResendsDoNotNest(t *testing.T) {
	t.Parallel()
	raw := assembled(t, examplePayload())
	for range 8 {
		p := resendOf(raw)
		w := p.wire()
		b, err := encode(w)
		if err != nil {
			t.Fatal(err)
		}
		raw = Assemble(b, make([]byte, 8))
	}
	if _, err := Parse(raw); err == nil || !strings.Contains(err.Error(), "type resend inside") {
		t.Errorf("eight resends in each other: %v", err)
	}
}

func TestSignInContentNamesEverything(t *testing.T) {
	t.Parallel()
	p := examplePayload()
	p.Type, p.Nonce = SignIn, make([]byte, NonceSize)
	m := SlotMAC{MACRef: p.MAC}
	m.Slot = 2
	base := string(SignInContent(p, m))
	for name, change := range map[string]func(*Payload, *SlotMAC){
		"environment": func(p *Payload, _ *SlotMAC) { p.Environment = keyset.Production },
		"tenant":      func(p *Payload, _ *SlotMAC) { p.Tenant = "OTHER" },
		"terminal":    func(p *Payload, _ *SlotMAC) { p.Terminal = "OTHER" },
		"boot":        func(p *Payload, _ *SlotMAC) { p.BootCounter++ },
		"nonce":       func(p *Payload, _ *SlotMAC) { p.Nonce = append(make([]byte, NonceSize-1), 1) },
		"slot":        func(_ *Payload, m *SlotMAC) { m.Slot++ },
		"KSN":         func(_ *Payload, m *SlotMAC) { m.KSN, _ = m.KSN.Next() },
	} {
		q, n := *p, m
		change(&q, &n)
		if string(SignInContent(&q, n)) == base {
			t.Errorf("another %s gives the same content", name)
		}
	}
	m.MAC = []byte{1}
	if string(SignInContent(p, m)) != base {
		t.Error("the content depends on the MAC over it")
	}
}

func TestAckAnswers(t *testing.T) {
	t.Parallel()
	a := exampleAck()
	if !a.Answers(Digest{1}) || a.Answers(Digest{2}) || a.Answers(Digest{}) {
		t.Error("the ack answers the wrong requests")
	}
	id := a.Floors[0].KeyID
	if floor, ok := a.Floor(1, id); !ok || floor != 7 {
		t.Errorf("floor %d, %v, want 7", floor, ok)
	}
	if _, ok := a.Floor(2, id); ok {
		t.Error("there is a floor of slot 2")
	}
	if _, ok := a.Floor(1, must(dukpt.ParseKeyID("1234567890123457"))); ok {
		t.Error("there is a floor of another key id")
	}
}

func TestAckRefusesLimits(t *testing.T) {
	t.Parallel()
	a := exampleAck()
	a.Limits = &Limits{Count: 1}
	if _, err := EncodeAck(a); !errors.Is(err, ErrMessage) {
		t.Errorf("limits without a currency: %v, want an ErrMessage", err)
	}
}

func TestAckAndRequestAreNotMistaken(t *testing.T) {
	t.Parallel()
	b, err := EncodeAck(exampleAck())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(AssembleAck(b, make([]byte, 8))); err == nil {
		t.Error("Parse takes an ack for a request")
	}
	if _, err := ParseAck(assembled(t, examplePayload())); err == nil {
		t.Error("ParseAck takes a request for an ack")
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for v := Sale; v <= Ack; v++ {
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again Type
		if err := again.UnmarshalText(text); err != nil || again != v || v.String() != string(text) {
			t.Errorf("type %d: %q reads as %d, %v", v, text, again, err)
		}
	}
	for v := Approved; v <= Refused; v++ {
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseResult(string(text))
		if err != nil || again != v || v.String() != string(text) {
			t.Errorf("result %d: %q reads as %d, %v", v, text, again, err)
		}
	}
	for _, bad := range []interface{ MarshalText() ([]byte, error) }{Type(0), Type(8), Result(0), Result(14), Usage(0), Usage(3)} {
		if text, err := bad.MarshalText(); err == nil {
			t.Errorf("%#v is written as %q", bad, text)
		}
	}
	if got := Result(99).String(); got != "invalid(99)" {
		t.Errorf("Result(99) prints %q", got)
	}
}

func TestDigestText(t *testing.T) {
	t.Parallel()
	d := DigestOf([]byte("x"))
	var again Digest
	if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
		t.Errorf("%v reads as %v, %v", d, again, err)
	}
	for _, bad := range []string{"", "00", strings.ToUpper(d.String()), d.String() + "00", strings.Repeat("g", 64)} {
		if _, err := ParseDigest(bad); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}

func TestAmountString(t *testing.T) {
	t.Parallel()
	eur := must(ParseCurrency("EUR"))
	for want, a := range map[string]Amount{
		"12.34 EUR":  {1234, eur, 2},
		"0.05 EUR":   {5, eur, 2},
		"7 EUR":      {7, eur, 0},
		"0.0001 EUR": {1, eur, 4},
	} {
		if got := a.String(); got != want {
			t.Errorf("%#v prints %q, want %q", a, got, want)
		}
	}
	for _, bad := range []string{"", "EU", "EURO", "eur", "E R"} {
		if _, err := ParseCurrency(bad); err == nil {
			t.Errorf("%q is taken for a currency", bad)
		}
	}
}
