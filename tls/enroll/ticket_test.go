package enroll_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

const (
	long = "4XQ7M2B9KTD0ZZZZYYYYWWWW01"
	pin  = "0123456789ABCDEFGHJKMNPQRS"
)

// short is a code of the short form with its check character.
func short(digits string) string { return digits + string(crockford.Check([]byte(digits))) }

// symbolic is a short code whose check character is no digit of the alphabet.
func symbolic(t *testing.T) string {
	t.Helper()
	for _, c := range crockford.Alphabet {
		if s := short("4XQ7M2B9KTD" + string(c)); !strings.Contains(crockford.Alphabet, s[12:]) {
			return s
		}
	}
	t.Fatal("no check character is a symbol")
	return ""
}

func TestParseTicket(t *testing.T) {
	t.Parallel()
	s, u := short("4XQ7M2B9KTD0"), symbolic(t)
	ones := short("111111111000")
	for typed, want := range map[string]string{
		long + "-" + pin: long, long + pin: long, strings.ToLower(long + "-" + pin): long,
		"4XQ7-M2B9-KTD0-ZZZZ-YYYY-WWWW-01-0123-4567-89AB-CDEF-GHJK-MNPQ-RS": long,
		" 4xq7 m2b9 ktd0 zzzz yyyy wwww 01 - 0123456789abcdefghjkmnpqrs ":   long,
		"4XQ7M2B9KTDOZZZZYYYYWWWWOI-OL23456789ABCDEFGHJKMNPQRS":             long,
		"4XQ7M2B9KTDoZZZZYYYYWWWWol-oi23456789abcdefghjkmnpqrs":             long,
		s + "-" + pin: s, s + pin: s, strings.ToLower(s) + " " + strings.ToLower(pin): s,
		s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:] + "-" + pin: s,
		u + "-" + pin: u, strings.ToLower(u) + pin: u,
		"ILiLIlili" + "ooO" + ones[12:] + pin: ones,
		"--" + long + "--" + pin + "--":       long,
	} {
		got, err := enroll.ParseTicket([]byte(typed))
		if err != nil {
			t.Errorf("%q: %v", typed, err)
			continue
		}
		if string(got.Code.Expose()) != want || got.Pin.String() != pin {
			t.Errorf("%q gives %q and %v", typed, got.Code.Expose(), got.Pin)
		}
		got.Wipe()
		if !got.Code.IsZero() {
			t.Errorf("%q: the code is still there", typed)
		}
	}
}

func TestParseTicketRefuses(t *testing.T) {
	t.Parallel()
	s := short("4XQ7M2B9KTD0")
	wrong := "A"
	if s[12:] == wrong {
		wrong = "B"
	}
	for name, typed := range map[string]string{
		"nothing": "", "hyphens": "----", "a code alone": long, "a short code alone": s, "a pin alone": pin,
		"a letter less": long[1:] + "-" + pin, "a letter more": long + "0-" + pin, "no check character": s[:12] + "-" + pin,
		"a wrong check character": s[:12] + wrong + "-" + pin, "a wrong digit": "5" + s[1:] + "-" + pin,
		"two digits change places": "X4" + s[2:] + "-" + pin, "U in the code": "U" + long[1:] + "-" + pin, "a symbol behind a long code": long[:25] + "*-" + pin,
		"U behind a long code": long[:25] + "U-" + pin, "a symbol in the pin": long + "-" + pin[:25] + "=", "U in the pin": long + "-U" + pin[1:],
		"a dot": long + "." + pin, "a newline": long + "-" + pin + "\n", "a tab": long + "\t" + pin, "NUL": long + "\x00" + pin,
		"an underscore": long[:25] + "_" + "-" + pin, "a look-alike": long[:24] + "\u041e" + "-" + pin, "no-break space": long + "\u00a0" + pin,
		"twice": long + "-" + pin + long + "-" + pin, "megabytes": strings.Repeat("0", 1<<20),
	} {
		typedBytes := []byte(typed)
		got, err := enroll.ParseTicket(typedBytes)
		if !errors.Is(err, enroll.ErrTicket) || !got.Code.IsZero() || !got.Pin.IsZero() {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := 0; i+4 <= min(len(typed), 60); i += 4 {
			if strings.Contains(err.Error(), typed[i:i+4]) && !strings.Contains("----", typed[i:i+4]) {
				t.Errorf("%s: %v repeats what was typed", name, err)
			}
		}
		if string(typedBytes) != typed {
			t.Errorf("%s: what was typed is changed", name)
		}
	}
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%c", "%U"}

// TestTicketPrintsNothing prints a ticket in every way there is.
func TestTicketPrintsNothing(t *testing.T) {
	t.Parallel()
	ticket, err := enroll.ParseTicket([]byte(long + "-" + pin))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	text, js := slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))
	nested := struct {
		T enroll.Ticket
		P *enroll.Ticket
	}{ticket, &ticket}
	hidden := struct{ t enroll.Ticket }{ticket} // where fmt does not ask the ticket, and shows the pin
	for _, verb := range verbs {
		fmt.Fprintf(&out, verb+"\n", hidden.t.Code)
		if printed := fmt.Sprintf(verb, hidden); strings.Contains(printed, long[:8]) || strings.Contains(printed, fmt.Sprintf("%x", long[:4])) {
			t.Errorf("%s of an unexported field prints %s", verb, printed)
		}
	}
	for _, v := range []any{ticket, &ticket, []enroll.Ticket{ticket}, map[string]enroll.Ticket{"t": ticket}, nested, &nested} {
		for _, verb := range verbs {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text.Info("v", "v", v)
		js.Info("v", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	fmt.Fprintln(&out, ticket, errors.Join(fmt.Errorf("%v", ticket)))
	printed := strings.ToUpper(out.String())
	for _, leak := range []string{
		long[:8], long[8:16], fmt.Sprintf("%X", long[:4]), fmt.Sprint([]byte(long[:4]))[1:10], pin[:8], fmt.Sprintf("%X", pin[:4]),
	} {
		if strings.Contains(printed, strings.ToUpper(leak)) {
			t.Errorf("printed %q", leak)
		}
	}
	if !strings.Contains(out.String(), "enroll.Ticket") {
		t.Error("nothing was printed")
	}
}

// FuzzParseTicket: what is read is written one way, and written that way it is read again.
func FuzzParseTicket(f *testing.F) {
	s := short("4XQ7M2B9KTD0")
	for _, typed := range []string{long + "-" + pin, s + "-" + pin, strings.ToLower(s) + " - " + pin, "il" + long[2:] + pin, long} {
		f.Add([]byte(typed))
	}
	if _, err := enroll.ParseTicket([]byte(s + "-" + pin)); err != nil {
		f.Fatalf("seed: %v", err)
	}
	f.Fuzz(func(t *testing.T, typed []byte) {
		ticket, err := enroll.ParseTicket(typed)
		if err != nil {
			if !errors.Is(err, enroll.ErrTicket) || !ticket.Code.IsZero() {
				t.Fatalf("%q: %v", typed, err)
			}
			return
		}
		text := string(ticket.Code.Expose())
		if n := len(text); n != 26 && (n != 13 || short(text[:12]) != text) {
			t.Fatalf("%q gives the code %q", typed, text)
		}
		folded := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(string(typed)))
		if folded != text+ticket.Pin.String() {
			t.Fatalf("%q gives %q and %v", typed, text, ticket.Pin)
		}
		again, err := enroll.ParseTicket([]byte(text + "-" + ticket.Pin.String()))
		if err != nil || !again.Code.Equal(secret.From([]byte(text))) || again.Pin != ticket.Pin {
			t.Fatalf("%q is read again with %v", typed, err)
		}
	})
}
