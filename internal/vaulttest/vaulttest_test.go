package vaulttest

import (
	"errors"
	"strings"
	"testing"
)

func TestServersDiffer(t *testing.T) {
	t.Parallel()
	a, b := Own(t), Own(t)
	if a.Address == b.Address || a.Token == b.Token {
		t.Fatalf("%s and %s", a.Address, b.Address)
	}
	a.Must("POST", "secret/data/here", map[string]any{"data": map[string]any{"is": "a"}})
	if _, err := b.Do(t.Context(), "GET", "secret/data/here", nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("what is in one Vault is in the other: %v", err)
	}
	a.Kill()
	if _, err := a.Do(t.Context(), "GET", "sys/health", nil); err == nil {
		t.Error("a Vault that was killed answers")
	}
}

// TestStoredSurvives kills a Vault and starts it again: it is sealed, and then it knows what it knew.
func TestStoredSurvives(t *testing.T) {
	t.Parallel()
	s := Stored(t)
	s.Must("POST", "sys/mounts/kept", map[string]any{"type": "kv"})
	s.Must("POST", "kept/here", map[string]any{"is": "it"})
	s.Kill()
	s.Start()
	if _, err := s.Do(t.Context(), "GET", "kept/here", nil); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("before it is unsealed: %v", err)
	}
	s.Unseal()
	if got := s.Must("GET", "kept/here", nil); got["is"] != "it" {
		t.Errorf("after: %v", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := new(Server)
	if a, b := s.Name("pki"), s.Name("pki"); a == b || !strings.HasPrefix(a, "pki-") {
		t.Errorf("%q and %q", a, b)
	}
}

// judge records what absent does to a test.
type judge struct {
	testing.TB
	failed, skipped bool
}

func (j *judge) Helper()               {}
func (j *judge) Fatalf(string, ...any) { j.failed = true; panic(j) }
func (j *judge) Skipf(string, ...any)  { j.skipped = true; panic(j) }

func TestAbsent(t *testing.T) {
	for demands, fails := range map[string]bool{"": false, "postgres": false, "vault": true, "softhsm,vault": true, "all": true, "vaults": false} {
		t.Setenv("LATCHKEY_REQUIRE", demands)
		j := new(judge)
		func() {
			defer func() { _ = recover() }() // Fatalf and Skipf end a test
			absent(j, errors.New("it is not there"))
		}()
		if j.failed != fails || j.skipped == fails {
			t.Errorf("LATCHKEY_REQUIRE=%s: failed %t, skipped %t", demands, j.failed, j.skipped)
		}
	}
}
