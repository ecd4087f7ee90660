package engine_test

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func TestLabelTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]engine.KeyMode{"software": engine.Software, "bdk-in-token": engine.BDKInToken, "token": engine.Token} {
		if got, err := engine.ParseKeyMode(text); err != nil || got != want || got.String() != text {
			t.Errorf("ParseKeyMode(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]engine.PINExposure{"none": engine.None, "host-memory": engine.HostMemory} {
		if got, err := engine.ParsePINExposure(text); err != nil || got != want || got.String() != text {
			t.Errorf("ParsePINExposure(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Software", "TOKEN", "hsm", "engine.KeyMode(0)", "host memory"} {
		if m, err := engine.ParseKeyMode(text); err == nil || m != 0 {
			t.Errorf("ParseKeyMode(%q) = %v, %v", text, m, err)
		}
		if e, err := engine.ParsePINExposure(text); err == nil || e != 0 {
			t.Errorf("ParsePINExposure(%q) = %v, %v", text, e, err)
		}
	}
	// A label that nobody set must not read like one that somebody did.
	if s := (engine.Labels{}).String(); s != "engine.KeyMode(0)/engine.PINExposure(0)/invalid(0)" {
		t.Errorf("zero labels read %q", s)
	}
}

func ExampleLabels() {
	l := engine.Labels{KeyMode: engine.Software, PINExposure: engine.HostMemory, Environment: keyset.Test}
	fmt.Println(l)
	// Output: software/host-memory/test
}
