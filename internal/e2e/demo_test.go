package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the demonstration as it ships.
func TestDemo(t *testing.T) {
	start := time.Now()
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "demo")
	if code != 0 {
		t.Fatalf("demo ends with %d\n%s%s", code, out, errs)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("demo took %s, want less than a minute", took)
	}
	for _, want := range []string{"software", "host-memory", "411111******1111", "KsnReplayed", "MacInvalid", "PinBlockInvalid", "PurposeNotPermitted", "HELD", "RESEND",
		"CodeSpent", "the one-time code was not sent", "refused, nothing stored", "the open connection to the acquirer", "TerminalRevoked", "draining",
		"T-AES is quarantined: at the registry after", "code TerminalQuarantined",
		"a fourth one is refused; 3 wait, 52.49 EUR together", "of its first copy are on the disk", "1 of 8 files have a bad copy",
		"all three are answered once"} {
		if !strings.Contains(out, want) {
			t.Errorf("demo never says %q\n%s", want, out)
		}
	}
	for _, leak := range []string{"4111111111111111", passphraseText} {
		if strings.Contains(out+errs, leak) {
			t.Errorf("demo prints %q", leak)
		}
	}
}

// TestDemoMissesEveryGuard runs the demonstration with each guard switched off, and demands that it fails at that guard's step.
func TestDemoMissesEveryGuard(t *testing.T) {
	for guard, step := range map[string]string{
		"guard.code-binding":  "step 5, attack: a slip of paper is used again, for another key",
		"guard.trust-list":    "step 6, attack: a trust list that a stranger has signed",
		"guard.kdh-signature": "step 7, attack: an initial key is changed on its way",
		"guard.claim":         "step 12, attack: the same KSN with another amount",
		"guard.mac-first":     "step 13, attack: one byte changed in flight",
		"guard.format4-pan":   "step 14, attack: a PIN block made for another card",
		"guard.purpose":       "step 15, attack: a PIN block sent as card data",
		"guard.blocked":       "step 16, a blocked key set",
		"guard.feed-gate":     "step 19, T-TDES is stolen",
		"bug.queue-unsaved":   "step 21, the power goes in the middle of a write",
	} {
		t.Run(guard, func(t *testing.T) {
			t.Parallel()
			out, errs, code := output(t.Context(), []string{"LATCHKEY_PLANTED=" + guard}, filepath.Join(binaries.planted, "latchkey"), "demo")
			if code == 0 {
				t.Fatalf("the demo does not notice\n%s%s", out, errs)
			}
			said := regexp.MustCompile(`(?m)^latchkey: .*$`).FindString(errs)
			if !strings.HasPrefix(said, "latchkey: "+step+": ") {
				t.Errorf("exit code %d, but %q does not name the step %q\n%s%s", code, said, step, out, errs)
			}
			t.Logf("exit code %d: %s", code, said)
		})
	}
	out, errs, code := output(t.Context(), []string{"LATCHKEY_PLANTED="}, filepath.Join(binaries.planted, "latchkey"), "demo")
	if code != 0 {
		t.Errorf("without a fault the same binary ends with %d\n%s%s", code, out, errs)
	}
}
