package keyset

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

var handlers = map[string]testvec.Handler{
	"key_set": keySetVector, "key_set_refused": keySetRefused,
	"terminal_record": terminalVector, "terminal_record_refused": terminalRefused,
	"signed_document": signedVector, "signed_document_refused": signedRefused,
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "protocol-keysets", handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "protocol-keysets", handlers, map[string][]string{
		"key_set": {"revision"}, "terminal_record": {"generation"}, "signed_document": {"payload"},
	})
}

func keySetVector(v testvec.Vector) (int, error) {
	s, err := Unmarshal(v.Hex("set"))
	if err != nil {
		return 0, err
	}
	got := fmt.Sprintf("%s %d %v", s.ID, s.Revision, s.State)
	if want := fmt.Sprintf("%s %s %s", v.String("key_set_id"), v.String("revision"), v.String("state")); got != want {
		return 0, fmt.Errorf("got %s, want %s", got, want)
	}
	again, err := Marshal(s.Clone())
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(again, v.Hex("set")) {
		return 0, fmt.Errorf("Marshal gave %x", again)
	}
	return 4, nil
}

func keySetRefused(v testvec.Vector) (int, error) {
	_, err := Unmarshal(v.Hex("set"))
	return refused(v, err)
}

func refused(v testvec.Vector, err error) (int, error) {
	if err == nil {
		return 0, fmt.Errorf("accepted: %s", v.String("reason"))
	}
	ours := errors.Is(err, ErrFormat) || errors.Is(err, ErrKeySet) || errors.Is(err, ErrTerminal) || errors.Is(err, ErrSignature)
	if !ours || !strings.Contains(err.Error(), v.String("error")) {
		return 0, fmt.Errorf("refused with %q, want one of ours with %q", err, v.String("error"))
	}
	return 1, nil
}

func terminalVector(v testvec.Vector) (int, error) {
	r, err := UnmarshalTerminal(v.Hex("record"))
	if err != nil {
		return 0, err
	}
	got := fmt.Sprintf("%s %d %v", r.ID, r.Generation, r.Status)
	if want := fmt.Sprintf("%s %s %s", v.String("terminal"), v.String("generation"), v.String("status")); got != want {
		return 0, fmt.Errorf("got %s, want %s", got, want)
	}
	again, err := MarshalTerminal(r)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(again, v.Hex("record")) {
		return 0, fmt.Errorf("MarshalTerminal gave %x", again)
	}
	return 4, nil
}

func terminalRefused(v testvec.Vector) (int, error) {
	_, err := UnmarshalTerminal(v.Hex("record"))
	return refused(v, err)
}

func signedVector(v testvec.Vector) (int, error) {
	payload, approvers, err := Open(v.Hex("document"), v.String("kind"), byCommonName)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(payload, v.Hex("payload")) {
		return 0, fmt.Errorf("payload %x", payload)
	}
	if want := v.Strings("approvers"); !slices.Equal(approvers, want) {
		return 0, fmt.Errorf("approvers %v, want %v", approvers, want)
	}
	return 2, nil
}

func signedRefused(v testvec.Vector) (int, error) {
	_, _, err := Open(v.Hex("document"), v.String("kind"), byCommonName)
	return refused(v, err)
}

// byCommonName believes every certificate.
func byCommonName(der []byte) (string, crypto.PublicKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "", nil, err
	}
	return c.Subject.CommonName, c.PublicKey, nil
}
