package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"latchkey-terminal": main})
}

const code = "correct horse battery"

// TestScripts runs the program as a user does. Each script finds a bundle, its code, a card and a PIN.
func TestScripts(t *testing.T) {
	t.Parallel()
	sealed, err := terminal.SealBundle(secret.From([]byte(code)), terminaltest.NewLab(t, dukpt.AES).Bundle(t,
		terminal.Endpoint{URL: "https://127.0.0.1:1"}))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"t1.bundle": string(sealed), "code": code + "\n", "wrong": "another twelve bytes\n",
		"card": ";4761739001010119=29122010123456789?\n", "pan": "4111111111111111\n", "pin": "1234\n", "short": "12\n",
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ amount, currency, want string }{
		{"12.34", "EUR", "12.34 EUR"}, {"12.3", "978", "12.30 EUR"}, {"12", "EUR", "12.00 EUR"}, {"500", "JPY", "500 JPY"},
		{"1.234", "KWD", "1.234 KWD"}, {"0.01", "USD", "0.01 USD"},
		{"12.345", "EUR", ""}, {"500.5", "JPY", ""}, {"", "EUR", ""}, {"-1", "EUR", ""}, {"+1", "EUR", ""}, {"1.", "EUR", ""},
		{".5", "EUR", ""}, {"1,50", "EUR", ""}, {"0", "EUR", ""}, {"99999999999999", "EUR", ""}, {"1", "XXX", ""}, {"1", "eur", ""},
	} {
		a, err := parseAmount(c.amount, c.currency)
		if got := a.String(); (err == nil) != (c.want != "") || err == nil && got != c.want {
			t.Errorf("%s %s: %s, %v, want %q", c.amount, c.currency, got, err, c.want)
		}
	}
}
