package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

var messageHandlers = map[string]testvec.Handler{"message": messageVector, "message_refused": messageRefused}

var ackHandlers = map[string]testvec.Handler{"ack": ackVector, "ack_refused": ackRefused}

func TestVectorsMessages(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "protocol-messages", messageHandlers)
}

func TestVectorsMessagesCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "protocol-messages", messageHandlers, map[string][]string{
		"message": {"payload", "mac", "message", "digest", "sign_in_content"},
	})
}

func TestVectorsAcks(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "protocol-acks", ackHandlers)
}

func TestVectorsAcksCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "protocol-acks", ackHandlers, map[string][]string{"ack": {"payload", "mac", "message"}})
}

// TestDocumentShowsVectors keeps the examples of docs/protocol.md and the vectors that they show together.
func TestDocumentShowsVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := func(members ...string) testvec.Handler {
		return func(v testvec.Vector) (int, error) {
			for _, name := range members {
				shown := slices.Contains([]string{"sale-tdes-pin-data", "approved-tdes", "pin-format0"}, v.ID)
				if shown && !bytes.Contains(text, []byte(v.String(name))) {
					return 0, fmt.Errorf("the document does not show %s", name)
				}
			}
			return 1, nil
		}
	}
	testvec.Run(t, "protocol-messages", map[string]testvec.Handler{"message": shown("digest", "mac"), "message_refused": shown()})
	testvec.Run(t, "protocol-acks", map[string]testvec.Handler{"ack": shown("mac"), "ack_refused": shown()})
	testvec.Run(t, "protocol-claims", map[string]testvec.Handler{
		"claim_content": shown("content", "ksn", "ciphertext"), "claim_content_refused": shown(),
	})
	for v := Approved; v <= Refused; v++ {
		if !bytes.Contains(text, []byte("`"+v.String()+"`")) {
			t.Errorf("the document does not say what %v means", v)
		}
	}
}

// messageVector builds the payload that the vector describes and compares it, in both directions, with the bytes.
func messageVector(v testvec.Vector) (int, error) {
	p := contentOf(v)
	payload, err := Encode(p)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(payload, v.Hex("payload")) {
		return 0, fmt.Errorf("Encode gave %x", payload)
	}
	raw := Assemble(payload, v.Hex("mac"))
	if !bytes.Equal(raw, v.Hex("message")) {
		return 0, fmt.Errorf("Assemble gave %x", raw)
	}
	m, err := Parse(v.Hex("message"))
	if err != nil {
		return 0, err
	}
	if diff := differ(m.Payload, p); diff != "" {
		return 0, errors.New(diff)
	}
	if !bytes.Equal(m.PayloadBytes, payload) || !bytes.Equal(m.MAC, v.Hex("mac")) || !bytes.Equal(m.Raw, raw) {
		return 0, errors.New("Parse gave other parts")
	}
	if m.Digest().String() != v.String("digest") {
		return 0, fmt.Errorf("digest %v", m.Digest())
	}
	n := 7
	if v.Has("sign_in_content") {
		s := m.Payload.SlotMACs[0]
		got := SignInContent(m.Payload, s)
		if !bytes.Equal(got, v.Hex("sign_in_content")) {
			return 0, fmt.Errorf("SignInContent gave %x", got)
		}
		n += 2
		if err := verify(s.MACRef, got, s.MAC); err != nil {
			return 0, fmt.Errorf("slot MAC: %w", err)
		}
	}
	for _, f := range m.Payload.Fields {
		if f.Usage != UsageData {
			continue
		}
		if err := opens(f); err != nil {
			return 0, err
		}
		n++
	}
	return n, verify(m.Payload.MAC, m.PayloadBytes, m.MAC)
}

// opens decrypts a field as a host does. Every card of the vectors is the same.
func opens(f Field) error {
	tx, _, err := hostSide(MACRef{KSN: f.KSN})
	if err != nil {
		return err
	}
	defer tx.End()
	s := f.KSN.Scheme().DefaultData()
	s.Mode, s.IV = f.Mode, f.IV
	clear, err := tx.DecryptData(nil, s, f.Ciphertext)
	if err != nil {
		return err
	}
	if got := strings.TrimRight(string(clear), "\x00"); got != ";4111111111111111=30122010000012300000?" {
		return fmt.Errorf("card data %q", got)
	}
	return nil
}

// verify checks a MAC as a host does, so that the vectors are messages that a real terminal could have sent.
func verify(r MACRef, payload, mac []byte) error {
	tx, spec, err := hostSide(r)
	if err != nil {
		return err
	}
	defer tx.End()
	return tx.VerifyMAC(spec, payload, mac)
}

func hostSide(r MACRef) (*dukpt.HostTransaction, dukpt.MACSpec, error) {
	a := keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: 'N'}
	material := "0123456789abcdeffedcba9876543210"
	var working dukpt.WorkingKey
	if r.KSN.Scheme() == dukpt.AES {
		a.Algorithm, material, working = keys.AES128, "fedcba9876543210f1f1f1f1f1f1f1f1", dukpt.KeyAES128
	}
	b, err := hex.DecodeString(material)
	if err != nil {
		return nil, dukpt.MACSpec{}, err
	}
	k, err := keys.NewKey(a, b)
	if err != nil {
		return nil, dukpt.MACSpec{}, err
	}
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		return nil, dukpt.MACSpec{}, err
	}
	tx, err := base.Begin(r.KSN)
	return tx, r.Spec(working), err
}

func messageRefused(v testvec.Vector) (int, error) {
	_, err := Parse(v.Hex("message"))
	return refused(v, err)
}

func refused(v testvec.Vector, err error) (int, error) {
	if err == nil {
		return 0, fmt.Errorf("accepted: %s", v.String("reason"))
	}
	if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), v.String("error")) {
		return 0, fmt.Errorf("refused with %q, want an ErrMessage with %q", err, v.String("error"))
	}
	return 1, nil
}

func ackVector(v testvec.Vector) (int, error) {
	a := ackOf(v)
	payload, err := EncodeAck(a)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(payload, v.Hex("payload")) {
		return 0, fmt.Errorf("EncodeAck gave %x", payload)
	}
	raw := AssembleAck(payload, v.Hex("mac"))
	if !bytes.Equal(raw, v.Hex("message")) {
		return 0, fmt.Errorf("AssembleAck gave %x", raw)
	}
	m, err := ParseAck(v.Hex("message"))
	if err != nil {
		return 0, err
	}
	if got, want := describeAck(m.Payload), describeAck(a); got != want {
		return 0, fmt.Errorf("ParseAck gave %s, want %s", got, want)
	}
	if !bytes.Equal(m.PayloadBytes, payload) || !bytes.Equal(m.MAC, v.Hex("mac")) || !bytes.Equal(m.Raw, raw) {
		return 0, errors.New("ParseAck gave other parts")
	}
	tx, spec, err := hostSide(macRefOf(v.Map("request_mac_ref")))
	if err != nil {
		return 0, err
	}
	defer tx.End()
	mac, err := tx.MACResponse(nil, spec, payload)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(mac, v.Hex("mac")) {
		return 0, fmt.Errorf("response MAC %x", mac)
	}
	return 7, nil
}

func ackRefused(v testvec.Vector) (int, error) {
	_, err := ParseAck(v.Hex("message"))
	return refused(v, err)
}

// What follows reads the members of a vector; they are all text. A vector that cannot be read panics, which testvec
// turns into an error with its id.

func contentOf(v testvec.Vector) *Payload {
	c := v.Map("content")
	p := &Payload{
		Version: uint(number(c, "v")), Tenant: keyset.TenantID(c["tenant"]), Terminal: keyset.TerminalID(c["terminal"]),
		BootCounter: number(c, "boot"), Sequence: number(c, "sequence"), Time: int64(number(c, "time")),
		MAC: macRefOf(v.Map("mac_ref")), Nonce: octets(c, "nonce"), Inner: octets(c, "inner"), Body: octets(c, "body"),
	}
	must0(p.Type.UnmarshalText([]byte(c["type"])))
	must0(p.Environment.UnmarshalText([]byte(c["environment"])))
	if v.Has("flags") {
		p.Offline = slices.Contains(v.Strings("flags"), "offline")
		p.Queued = slices.Contains(v.Strings("flags"), "queued")
	}
	if v.Has("fields") {
		for _, f := range v.Objects("fields") {
			p.Fields = append(p.Fields, fieldOf(f))
		}
	}
	if v.Has("amount") {
		a := v.Map("amount")
		p.Amount = &Amount{int64(number(a, "minor")), must(ParseCurrency(a["currency"])), uint8(number(a, "exponent"))}
	}
	if v.Has("original") {
		o := v.Map("original")
		p.Original = &Original{number(o, "sequence"), must(dukpt.ParseKSNHex(o["ksn"])), must(ParseDigest(o["digest"]))}
	}
	if v.Has("slot_macs") {
		for _, m := range v.Objects("slot_macs") {
			p.SlotMACs = append(p.SlotMACs, SlotMAC{macRefOf(m), octets(m, "mac")})
		}
	}
	return p
}

func macRefOf(m map[string]string) MACRef {
	r := MACRef{Slot: uint8(number(m, "slot")), KSN: must(dukpt.ParseKSNHex(m["ksn"])), Length: int(number(m, "length"))}
	r.Algorithm = must(dukpt.ParseMACAlgorithm(m["algorithm"]))
	if m["padding"] != "" {
		r.Padding = dukpt.MACPadding(number(m, "padding"))
	}
	return r
}

func fieldOf(m map[string]string) Field {
	f := Field{Slot: uint8(number(m, "slot")), KSN: must(dukpt.ParseKSNHex(m["ksn"])), IV: octets(m, "iv"), Ciphertext: octets(m, "ciphertext")}
	must0(f.Usage.UnmarshalText([]byte(m["usage"])))
	if m["mode"] != "" {
		f.Mode = must(dukpt.ParseCipherMode(m["mode"]))
	}
	if m["pin-format"] != "" {
		f.PINFormat = must(pin.ParseFormat(m["pin-format"]))
	}
	return f
}

func ackOf(v testvec.Vector) *AckPayload {
	c := v.Map("content")
	a := &AckPayload{Version: uint(number(c, "v")), Result: must(ParseResult(c["result"])), HostTime: int64(number(c, "time")), Body: octets(c, "body")}
	for _, d := range v.Strings("digests") {
		a.Digests = append(a.Digests, must(ParseDigest(d)))
	}
	if v.Has("floors") {
		for _, f := range v.Objects("floors") {
			a.Floors = append(a.Floors, SlotFloor{uint8(number(f, "slot")), must(dukpt.ParseKeyID(f["key-id"])), uint32(number(f, "floor"))})
		}
	}
	if v.Has("limits") {
		l := v.Map("limits")
		a.Limits = &Limits{
			Count: uint32(number(l, "count")), Bytes: uint32(number(l, "bytes")), AgeSeconds: uint32(number(l, "age")),
			Amount: Amount{int64(number(l, "minor")), must(ParseCurrency(l["currency"])), uint8(number(l, "exponent"))},
		}
	}
	return a
}

func describeAck(a *AckPayload) string {
	b := *a
	b.Limits = nil
	s := fmt.Sprintf("%+v", b)
	if a.Limits != nil {
		s += fmt.Sprintf(" limits %+v", *a.Limits)
	}
	return s
}

func number(m map[string]string, name string) uint64 { return must(strconv.ParseUint(m[name], 10, 64)) }

func octets(m map[string]string, name string) []byte {
	if m[name] == "" {
		return nil
	}
	return must(hex.DecodeString(m[name]))
}

func must0(err error) {
	if err != nil {
		panic(err)
	}
}

// differ says how two payloads differ, or nothing.
func differ(got, want *Payload) string {
	g, w := describe(got), describe(want)
	if g == w {
		return ""
	}
	return fmt.Sprintf("got %s, want %s", g, w)
}

func describe(p *Payload) string {
	q := *p
	q.Amount, q.Original = nil, nil
	s := fmt.Sprintf("%+v", q)
	if p.Amount != nil {
		s += fmt.Sprintf(" amount %+v", *p.Amount)
	}
	if p.Original != nil {
		s += fmt.Sprintf(" original %+v", *p.Original)
	}
	return s
}
