package enroll_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/enroll"
)

const slipText = "latchkey-enrol 1\ntenant ACME\nterminal T-0001\nenvironment production\nurl https://ra.example:8445\n" +
	"trust-url http://ra.example:8447\nticket " + long + "-" + pin + "\n"

// TestSlip reads a slip as cameras and editors leave it, and writes it again.
func TestSlip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		slipText, strings.TrimSuffix(slipText, "\n"), strings.ReplaceAll(slipText, "\n", "\r\n"), strings.TrimSuffix(strings.ReplaceAll(slipText, "\n", "\r\n"), "\n"),
	} {
		s, err := enroll.ParseSlip([]byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got := s.Tenant + " " + s.Terminal + " " + s.Environment + " " + s.URL + " " + s.TrustURL; got !=
			"ACME T-0001 production https://ra.example:8445 http://ra.example:8447" || string(s.Ticket.Code.Expose()) != long {
			t.Errorf("%q reads as %s", text, got)
		}
		again, err := s.Append([]byte("x"))
		if err != nil || string(again) != "x"+slipText {
			t.Errorf("written again: %q, %v", again, err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if printed := fmt.Sprintf(verb, s); strings.Contains(printed, long[:8]) {
				t.Errorf("%s prints %s", verb, printed)
			}
		}
	}
}

// TestNoSlip reads what is none: errors quote nothing of it.
func TestNoSlip(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "a ticket": long + "-" + pin, "another version": strings.Replace(slipText, "enrol 1", "enrol 2", 1),
		"a line less": strings.Replace(slipText, "tenant ACME\n", "", 1), "a line more": slipText + "x y\n", "an empty line": slipText + "\n",
		"another order": strings.Replace(slipText, "tenant ACME\nterminal T-0001\n", "terminal T-0001\ntenant ACME\n", 1),
		"no value":      strings.Replace(slipText, "ACME", "", 1), "two words": strings.Replace(slipText, "ACME", "A B", 1),
		"a control": strings.Replace(slipText, "ACME", "A\x1b", 1), "no https": strings.Replace(slipText, "https", "http", 1),
		"https for the list": strings.Replace(slipText, "http:", "https:", 1), "a path": strings.Replace(slipText, "8445", "8445/x", 1),
		"a user": strings.Replace(slipText, "https://", "https://u@", 1), "a mistyped ticket": strings.Replace(slipText, long, long[1:], 1),
		"too long": strings.Replace(slipText, "ACME", strings.Repeat("A", 1<<10), 1), "two line ends": strings.ReplaceAll(slipText, "\n", "\r\r\n"),
	} {
		_, err := enroll.ParseSlip([]byte(text))
		if !errors.Is(err, enroll.ErrSlip) || strings.Contains(err.Error(), long[:8]) || strings.Contains(err.Error(), "ACME") {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole, err := enroll.ParseSlip([]byte(slipText))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*enroll.Slip){
		"no tenant": func(s *enroll.Slip) { s.Tenant = "" }, "a line feed": func(s *enroll.Slip) { s.Terminal = "T\nx" },
		"no address": func(s *enroll.Slip) { s.URL = "" }, "no ticket": func(s *enroll.Slip) { s.Ticket = enroll.Ticket{} },
		"too long": func(s *enroll.Slip) { s.Tenant = strings.Repeat("A", 1<<10) },
	} {
		s := whole
		change(&s)
		if b, err := s.Append(nil); !errors.Is(err, enroll.ErrSlip) || b != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// FuzzSlip reads slips: what reads is written in one spelling, which reads as the same.
func FuzzSlip(f *testing.F) {
	f.Add([]byte(slipText))
	f.Add([]byte(strings.ReplaceAll(slipText, "\n", "\r\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := enroll.ParseSlip(b)
		if err != nil {
			if !errors.Is(err, enroll.ErrSlip) {
				t.Fatal(err)
			}
			return
		}
		one, err := s.Append(nil)
		if errors.Is(err, enroll.ErrSlip) && len(b) > enroll.MaxSlip-64 { // a ticket is longer with its hyphen
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := enroll.ParseSlip(one)
		if err != nil {
			t.Fatal(err)
		}
		if two, err := again.Append(nil); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%q, then %q (%v)", one, two, err)
		}
	})
}
