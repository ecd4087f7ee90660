package remote

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const topic = "protocol-delivery"

var handlers = map[string]testvec.Handler{
	"delivery": deliveryVector, "delivery_refused": deliveryRefused, "agreement": agreementVector,
	"request": messageVector(ParseRequest), "request_refused": messageRefused(ParseRequest),
	"order": messageVector(ParseOrder), "order_refused": messageRefused(ParseOrder),
	"certify_order": messageVector(ParseCertifyOrder), "certify_order_refused": messageRefused(ParseCertifyOrder),
	"settlement": messageVector(ParseSettlement), "settlement_refused": messageRefused(ParseSettlement),
	"assignment": messageVector(ParseAssignment), "assignment_refused": messageRefused(ParseAssignment),
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, topic, handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, topic, handlers, map[string][]string{
		"delivery": {
			"delivery", "transcript", "transcript_digest", "z", "other_info", "kbpk", "signature_input", "key_id", "initial_key", "replaces",
			"nonce", "exporter", "tls_certificate", "agreement_certificate", "agreement_private",
		},
		"agreement": {"z", "other_info", "kbpk", "private"},
		"request":   {"message"}, "order": {"message"}, "certify_order": {"message"}, "settlement": {"message"}, "assignment": {"message"},
	})
}

// messageOf is every message but Delivery.
type messageOf interface{ Marshal() ([]byte, error) }

func messageVector[M messageOf](parse func([]byte) (M, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		m, err := parse(v.Hex("message"))
		if err != nil {
			return 0, err
		}
		again, err := m.Marshal()
		if err != nil {
			return 0, err
		}
		if got, want := contentOf(m), v.Map("content"); !maps.Equal(got, want) {
			return 0, fmt.Errorf("content: got %v, want %v", got, want)
		}
		return compared{n: 1}.bytes("message", again, v).result()
	}
}

// contentOf says what a message says, without the members that are absent.
func contentOf(m any) map[string]string {
	var out map[string]string
	switch m := m.(type) {
	case *Request:
		out = map[string]string{"slot": fmt.Sprint(m.Slot), "nonce": hexOf(m.Nonce[:]), "attestation": hexOf(m.Attestation...)}
	case *Order:
		out = map[string]string{
			"tenant": string(m.Tenant), "terminal": string(m.Terminal), "slot": fmt.Sprint(m.Slot), "key-set": string(m.KeySet),
			"replaces": hexOf(bytesOf(m.Replaces)), "beyond": hexOf(bytesOf(m.Beyond)), "tls-chain": hexOf(m.TLSChain...),
			"agreement-chain": hexOf(m.AgreementChain...), "nonce": hexOf(m.Nonce[:]), "exporter": hexOf(m.Exporter[:]),
			"attestation": hexOf(m.Attestation...),
		}
	case *CertifyOrder:
		out = map[string]string{
			"tenant": string(m.Tenant), "terminal": string(m.Terminal), "tls-chain": hexOf(m.TLSChain...), "csr": hexOf(m.CSR),
		}
	case *Settlement:
		out = map[string]string{
			"tenant": string(m.Tenant), "terminal": string(m.Terminal), "slot": fmt.Sprint(m.Slot), "key-set": string(m.KeySet),
			"key-id": hexOf(bytesOf(m.KeyID)), "state": m.State.String(),
		}
	case *Assignment:
		var slots []string
		for _, s := range m.Slots {
			wanted := map[bool]string{true: "yes"}[s.Wanted]
			slots = append(slots, fmt.Sprintf("%d %s %v %s %s", s.Slot, s.KeySet, s.Delivery, wanted, hexOf(bytesOf(s.KeyID))))
		}
		out = map[string]string{
			"tenant": string(m.Tenant), "terminal": string(m.Terminal), "environment": m.Environment.String(),
			"slots": strings.Join(slots, "|"), "endpoints": strings.Join(m.Endpoints, "|"),
			"renew-after": fmt.Sprint(m.RenewAfter.Unix()), "renew-before": fmt.Sprint(m.RenewBefore.Unix()),
		}
	}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

func hexOf(parts ...[]byte) string {
	var out []string
	for _, p := range parts {
		out = append(out, hex.EncodeToString(p))
	}
	return strings.Join(out, "|")
}

func messageRefused[M messageOf](parse func([]byte) (M, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		_, err := parse(v.Hex("message"))
		return refusedAs(v, err, ErrFormat)
	}
}

func refusedAs(v testvec.Vector, err, kind error) (int, error) {
	if err == nil {
		return 0, fmt.Errorf("accepted: %s", v.String("reason"))
	}
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), v.String("error")) {
		return 0, fmt.Errorf("refused with %q, want %v with %q", err, kind, v.String("error"))
	}
	return 1, nil
}

// compared counts comparisons and keeps the first that fails.
type compared struct {
	n   int
	err error
}

func (c compared) bytes(name string, got []byte, v testvec.Vector) compared {
	c.n++
	if want := v.Hex(name); c.err == nil && !bytes.Equal(got, want) {
		c.err = fmt.Errorf("%s: got %x, want %x", name, got, want)
	}
	return c
}

func (c compared) text(name, got string, v testvec.Vector) compared {
	c.n++
	if want := v.String(name); c.err == nil && got != want {
		c.err = fmt.Errorf("%s: got %s, want %s", name, got, want)
	}
	return c
}

func (c compared) result() (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	return c.n, nil
}

// terminalSide is what a vector says of the terminal.
type terminalSide struct {
	binding   Binding
	agreement *ecdh.PrivateKey
	options   OpenOptions
}

func terminalOf(v testvec.Vector) (terminalSide, error) {
	tls, err := x509.ParseCertificate(v.Hex("tls_certificate"))
	if err != nil {
		return terminalSide{}, err
	}
	agreement, err := x509.ParseCertificate(v.Hex("agreement_certificate"))
	if err != nil {
		return terminalSide{}, err
	}
	private, err := privateOf(v.Hex("agreement_private"))
	if err != nil {
		return terminalSide{}, err
	}
	environment, err := keyset.ParseEnvironment(v.String("environment"))
	if err != nil {
		return terminalSide{}, err
	}
	roots := x509.NewCertPool()
	for _, text := range v.Strings("roots") {
		der, err := hex.DecodeString(text)
		if err != nil {
			return terminalSide{}, err
		}
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return terminalSide{}, err
		}
		roots.AddCert(root)
	}
	out := terminalSide{agreement: private, binding: Binding{
		Tenant: keyset.TenantID(v.String("tenant")), Terminal: keyset.TerminalID(v.String("terminal")), Slot: uint8(v.Int("slot")),
		TLS: tls, Agreement: agreement, Nonce: [32]byte(v.Hex("nonce")), Exporter: [32]byte(v.Hex("exporter")),
	}, options: OpenOptions{
		Roots: roots, Now: time.Unix(int64(v.Int("now")), 0), Environment: environment, KeySet: keyset.ID(v.String("key_set")),
	}}
	if v.Has("installed") {
		err = out.options.Installed.UnmarshalBinary(v.Hex("installed"))
	}
	return out, err
}

// privateOf reads a scalar; its length says on which curve.
func privateOf(scalar []byte) (*ecdh.PrivateKey, error) {
	for s := SuiteP256; s <= SuiteP521; s++ {
		if key, err := s.Curve().NewPrivateKey(scalar); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no private key in %d bytes", len(scalar))
}

func deliveryVector(v testvec.Vector) (int, error) {
	side, err := terminalOf(v)
	if err != nil {
		return 0, err
	}
	d, err := ParseDelivery(v.Hex("delivery"))
	if err != nil {
		return 0, err
	}
	opened, err := Open(d, side.binding, side.agreement, side.options)
	if err != nil {
		return 0, err
	}
	defer opened.Wipe()
	again, err := d.Marshal()
	if err != nil {
		return 0, err
	}
	key := opened.Key.Key()
	defer key.Wipe()
	c := compared{}.bytes("delivery", again, v).bytes("initial_key", key.Material().Expose(), v).bytes("key_id", bytesOf(opened.Key.KeyID()), v)
	if v.Has("replaces") || opened.Replaces != (dukpt.KeyID{}) {
		c = c.bytes("replaces", bytesOf(opened.Replaces), v)
	}
	return c.inner(d, side, v).result()
}

// inner compares every value on the way.
func (c compared) inner(d *Delivery, side terminalSide, v testvec.Vector) compared {
	s, p, err := inspect(d, side.binding, side.agreement, side.options)
	if err != nil {
		c.err = err
		return c
	}
	z, err := side.agreement.ECDH(p.ephemeral)
	if err != nil {
		c.err = err
		return c
	}
	kbpk, err := s.suite.derive(z, s.otherInfo())
	if err != nil {
		c.err = err
		return c
	}
	defer kbpk.Wipe()
	digest, err := hex.DecodeString(s.otherInfo())
	if err != nil {
		c.err = err
		return c
	}
	return c.bytes("transcript", s.transcript(), v).bytes("transcript_digest", digest, v).text("other_info", s.otherInfo(), v).
		bytes("z", z, v).bytes("kbpk", kbpk.Material().Expose(), v).bytes("signature_input", s.signed(d.Block), v).
		text("suite", s.suite.String(), v)
}

func deliveryRefused(v testvec.Vector) (int, error) {
	side, err := terminalOf(v)
	if err != nil {
		return 0, err
	}
	d, err := ParseDelivery(v.Hex("delivery"))
	if err != nil {
		return refusedAs(v, err, ErrFormat)
	}
	opened, err := Open(d, side.binding, side.agreement, side.options)
	if err != nil && opened != nil {
		return 0, errors.New("an error and a key")
	}
	return refusedAs(v, err, ErrDelivery)
}

func agreementVector(v testvec.Vector) (int, error) {
	own, err := privateOf(v.Hex("private"))
	if err != nil {
		return 0, err
	}
	peer, err := own.Curve().NewPublicKey(v.Hex("peer"))
	if err != nil {
		return 0, err
	}
	z, err := own.ECDH(peer)
	if err != nil {
		return 0, err
	}
	for s := SuiteP256; s <= SuiteP521; s++ {
		if s.String() != v.String("suite") {
			continue
		}
		kbpk, err := s.derive(z, v.String("other_info"))
		if err != nil {
			return 0, err
		}
		defer kbpk.Wipe()
		return compared{}.bytes("z", z, v).bytes("kbpk", kbpk.Material().Expose(), v).result()
	}
	return 0, fmt.Errorf("no suite %s", v.String("suite"))
}
