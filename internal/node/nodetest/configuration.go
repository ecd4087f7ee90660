package nodetest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// Changed is a configuration that is refused: the good one with something new in the place of what stands there, and what
// the error has to name.
type Changed = struct{ Name, Old, New, Want string }

// refusedEverywhere are those that no daemon takes.
var refusedEverywhere = []Changed{
	{"unknown member", "tenant:", "colour: red\ntenant:", "colour"},
	{"repeated member", "tenant: ACME", "tenant: ACME\ntenant: ACME", "tenant"},
	{"wrong case", "tenant:", "Tenant:", "Tenant"},
	{"second document", "tenant:", "---\n{}\n---\ntenant:", "document"},
	{"no tenant", "tenant: ACME\n", "", "tenant"},
	{"bad tenant", "ACME", "acme", "tenant"},
	{"no environment", "environment: test\n", "", "environment"},
	{"bad environment", "environment: test", "environment: staging", "environment"},
	{"no passphrase", "passphrase-file: pass\n", "", "passphrase-file"},
	{"bad instance", "tenant:", "instance: \"a b\"\ntenant:", "instance"},
	{"admin without port", "tenant:", "admin: localhost\ntenant:", "admin"},
	{"no folder", "tenant:", "folder: \"\"\ntenant:", "folder"},
	{"no certificate", "tenant:", "certificate: \"\"\ntenant:", "certificate"},
	{"no key", "tenant:", "key: \"\"\ntenant:", "key"},
	{"no database", "tenant:", "database: \"\"\ntenant:", "database"},
	{"no key of checkpoints", "tenant:", "checkpoint-key: \"\"\ntenant:", "checkpoint-key"},
	{"no checkpoint file", "tenant:", "checkpoint-file: \"\"\ntenant:", "checkpoint-file"},
	{"duration without unit", "tenant:", "checkpoint-every: 60\ntenant:", "duration"},
	{"duration out of range", "tenant:", "checkpoint-every: 2h\ntenant:", "checkpoint-every"},
}

// Config is the configuration of a node.
type Config interface{ Check() error }

// RefusesConfig wants parse and the Check of what it returns to take the good configuration, and to refuse each that is
// changed, and those that no daemon takes.
func RefusesConfig[C Config](t *testing.T, good string, parse func([]byte) (C, error), changed ...Changed) {
	t.Helper()
	check := func(text string) error {
		c, err := parse([]byte(text))
		if err != nil {
			return err
		}
		return c.Check()
	}
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(refusedEverywhere, changed) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(good, c.Old, c.New, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			if err := check(text); err == nil || !strings.Contains(err.Error(), c.Want) {
				t.Errorf("got %v, want an error about %q for\n%s", err, c.Want, text)
			}
		})
	}
}

// FuzzConfig holds parse to refusing or giving what Check can decide on: what it lets pass is complete.
func FuzzConfig[C Config](f *testing.F, good string, parse func([]byte) (C, error), complete func(C) bool) {
	f.Add([]byte(good))
	f.Add([]byte("tenant: [}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parse(b)
		if err == nil && c.Check() == nil && !complete(c) {
			t.Errorf("%q passes without what is required", b)
		}
	})
}

// Attempt is a way of starting that is refused: what makes it so, the error that the refusal wraps, nil for none, and what it has
// to name.
type Attempt[C Config] = struct {
	Name   string
	Change func(*testing.T, *C)
	Kind   error
	Want   string
}

// RefusesStart wants check, the Check of a package, to refuse the configurations that config gives, each changed in one way.
func RefusesStart[C Config](t *testing.T, config func(testing.TB) C, check func(context.Context, C, *slog.Logger) error, attempts ...Attempt[C]) {
	t.Helper()
	for _, a := range attempts {
		t.Run(a.Name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			a.Change(t, &c)
			err := check(t.Context(), c, slog.New(slog.DiscardHandler))
			if err == nil || (a.Kind != nil && !errors.Is(err, a.Kind)) || !strings.Contains(err.Error(), a.Want) {
				t.Errorf("got %v, want %v about %q", err, a.Kind, a.Want)
			}
		})
	}
}
