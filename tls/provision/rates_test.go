package provision_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// TestOpenCode says until when a code is good, while it is.
func TestOpenCode(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	until := func(what string, want time.Time) {
		t.Helper()
		if got := must[time.Time](t)(l.engine.OpenCode(t.Context(), "T-1")); !got.Equal(want) {
			t.Errorf("%s: good until %v, want %v", what, got, want)
		}
	}
	until("none", time.Time{})
	l.code("T-1")
	until("open", noon.Add(15*time.Minute))
	l.clock.forward(15 * time.Minute)
	until("over", time.Time{})
	check(t, l.device("T-1").enroll(l.code("T-1")))
	until("spent", time.Time{})
}

func TestLifeOfACode(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	d := l.device("T-1")
	code := l.code("T-1")
	l.clock.forward(15 * time.Minute)
	refused(t, "after 15 minutes", d.enroll(code), provision.CodeOneTimeCodeExpired)
	l.sweep()
	refused(t, "after the sweep", d.enroll(code), provision.CodeOneTimeCodeExpired)
	if l.audited("code/void", "DONE", "expired") != 1 {
		t.Error("that the code expired is not audited")
	}
	old := l.code("T-1", func(o *provision.Operation) { o.Lifetime = 24 * time.Hour })
	long := l.code("T-1", func(o *provision.Operation) { o.Lifetime = 24 * time.Hour })
	refused(t, "the code before", d.enroll(old), provision.CodeCredentialsRefused)
	l.clock.forward(24*time.Hour - time.Second)
	l.sweep()
	check(t, d.enroll(long))
}

func TestShortCodes(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1", func(o *provision.Operation) { o.Short = true })
	if code.Len() != 13 {
		t.Fatalf("a short code of %d characters", code.Len())
	}
	d := l.device("T-1")
	typo := []byte(string(code.Expose()))
	if typo[3]++; typo[3] > '9' && typo[3] < 'A' {
		typo[3] = '0'
	}
	for range 9 {
		refused(t, "a typing mistake", d.enroll(secret.From(typo)), provision.CodeCredentialsRefused)
	}
	typed := strings.ToLower(string(code.Expose()[:6])) + "-" + strings.NewReplacer("0", "o", "1", "l").Replace(string(code.Expose()[6:]))
	check(t, d.enroll(secret.From([]byte(typed)))) // mistyped ones were no guesses
}

func TestRates(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) {
		c.TerminalRate, c.SourceRate = provision.Rate{Every: 10 * time.Second, Burst: 3}, provision.Rate{Every: time.Second, Burst: 5}
	})
	l.register("T-1")
	guess := func(from, id string) error {
		_, err := l.engine.Enroll(t.Context(), from, id, provision.NewCode(false), nil)
		return err
	}
	for range 3 {
		refused(t, "a guess", guess("192.0.2.1:1", "T-1"), provision.CodeCredentialsRefused)
	}
	refusal := refused(t, "one too many for the terminal", guess("192.0.2.2:1", "T-1"), provision.CodeTooManyAttempts)
	if refusal.RetryAfter < time.Second || refusal.RetryAfter > 10*time.Second || refusal.Problem().Status != 429 {
		t.Errorf("refusal %+v", refusal)
	}
	for range 2 {
		refused(t, "a guess at another", guess("192.0.2.1:2", "T-9"), provision.CodeCredentialsRefused)
	}
	refused(t, "one too many from there", guess("192.0.2.1:3", "T-8"), provision.CodeTooManyAttempts)
	refused(t, "from elsewhere", guess("192.0.2.3:3", "T-8"), provision.CodeCredentialsRefused)
	l.clock.forward(10 * time.Second)
	refused(t, "later", guess("192.0.2.1:3", "T-1"), provision.CodeCredentialsRefused)
}

func TestIssuanceCap(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.DailyCap = 3 })
	d := l.enrolled("T-1") // two
	chain, err := d.renew(newKey(t))
	check(t, err)
	d.chain = chain
	_, err = d.renew(newKey(t))
	refusal := refused(t, "a fourth", err, provision.CodeIssuanceCapReached)
	if refusal.RetryAfter != 12*time.Hour {
		t.Errorf("retry after %v, want 12 h", refusal.RetryAfter)
	}
	l.clock.forward(12 * time.Hour)
	_, err = d.renew(newKey(t))
	check(t, err)
}

// TestRateOfMembers bounds the attempts of a terminal that has enrolled, apart from those of strangers in its name.
func TestRateOfMembers(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.TerminalRate = provision.Rate{Every: 10 * time.Second, Burst: 3} })
	l.register("T-1")
	d := l.device("T-1")
	check(t, d.enroll(l.code("T-1")))
	for range 2 {
		refused(t, "a stranger", l.device("T-1").enroll(provision.NewCode(false)), provision.CodeCredentialsRefused)
	}
	refused(t, "strangers", l.device("T-1").enroll(provision.NewCode(false)), provision.CodeTooManyAttempts)
	l.failing(errors.New("issuer away"))
	key, agreement := newKey(t), newKey(t)
	check(t, d.agree(agreement))
	for range 2 {
		_, err := d.renew(key)
		refused(t, "a renewal", err, provision.CodeIssuerUnavailable)
	}
	_, err := d.renew(key)
	if refusal := refused(t, "one too many", err, provision.CodeTooManyAttempts); refusal.RetryAfter != 10*time.Second || l.audited("renew", "REFUSED", "") != 2 {
		t.Errorf("retry after %v, want 10 s, or audited", refusal.RetryAfter)
	}
	_, err = l.engine.Reenroll(t.Context(), d.caller(), nil)
	refused(t, "a request for which nobody is asked", err, provision.CodeSigningRequestRefused)
	check(t, d.agree(agreement)) // nobody is asked here either
	l.failing(nil)
	l.clock.forward(10 * time.Second)
	_, err = d.renew(key)
	check(t, err)
}

// TestManySources comes from so many addresses that not all can be remembered: strangers wait, and time makes room.
func TestManySources(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) {
		c.SourceRate = provision.Rate{Every: time.Second, Burst: 1}
	})
	from := func(n int) error {
		_, err := l.engine.Enroll(t.Context(), fmt.Sprintf("10.%d.%d.%d:1", n>>16&255, n>>8&255, n&255), "T-1", secret.Bytes{}, nil)
		return err
	}
	for n := range 1 << 14 {
		if err := from(n); err == nil {
			t.Fatal("enrolled with nothing")
		}
	}
	refused(t, "one source more", from(1<<14), provision.CodeTooManyAttempts)
	refused(t, "one that is remembered", from(5), provision.CodeTooManyAttempts)
	l.clock.forward(time.Second)
	refused(t, "a second later", from(1<<14), provision.CodeCredentialsRefused)
}
