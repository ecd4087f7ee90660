package provision_test

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// TestCensus counts a registry with one of each.
func TestCensus(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	census := func() *provision.Census { t.Helper(); return must[*provision.Census](t)(l.engine.Census(t.Context())) }
	if c := census(); len(c.Terminals) != 0 || c.Oldest != 0 || slices.Max(c.Ending) != 0 {
		t.Errorf("of nothing: %+v", c)
	}
	d := l.enrolled("T-1")
	if _, err := d.renew(newKey(t)); err != nil {
		t.Fatal(err)
	}
	l.enrolled("T-2")
	l.act(provision.ActionRevoke, "T-2")
	l.register("T-3")
	c := census()
	if want := map[keyset.Status]int{keyset.StatusPending: 2, keyset.StatusRevoked: 1}; !maps.Equal(c.Terminals, want) {
		t.Errorf("terminals %v, want %v", c.Terminals, want)
	}
	want := map[provision.CertificateState]int{provision.CertificateCurrent: 1, provision.CertificatePrevious: 1, provision.CertificateRevoked: 1}
	if got := c.Certificates[identity.Terminal]; !maps.Equal(got, want) {
		t.Errorf("certificates %v, want %v", got, want)
	}
	if c.Tasks[provision.TaskRevoke] != 1 || c.Tasks[provision.TaskOrphans] != 0 || c.Ending[len(c.Ending)-1] != 1 || c.Ending[0] != 0 {
		t.Errorf("tasks %v, ending %v", c.Tasks, c.Ending)
	}
	l.failing(errors.New("sealed"))
	l.clock.forward(time.Minute)
	if c := census(); c.Oldest != time.Minute {
		t.Errorf("the oldest task waits for %v", c.Oldest)
	}
	l.clock.forward(l.row("T-1").NotAfter.Sub(l.clock.time()) - 30*time.Minute)
	if c := census(); c.Ending[0] != 1 {
		t.Errorf("half an hour before the end: %v", c.Ending)
	}
	l.clock.forward(time.Hour)
	if c := census(); c.Certificates[identity.Terminal][provision.CertificateExpired] != 3 || slices.Max(c.Ending) != 0 {
		t.Errorf("after the end: %v, %v", c.Certificates, c.Ending)
	}
}

// TestCount wants one word for each thing that a terminal asks for, and a known one.
func TestCount(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	counted := make(map[string]int)
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) {
		c.Count = func(action, result string) {
			mu.Lock()
			defer mu.Unlock()
			counted[action+" "+result]++
		}
	})
	d := l.enrolled("T-1")
	if _, err := d.renew(newKey(t)); err != nil {
		t.Fatal(err)
	}
	l.register("T-2")
	other := l.device("T-2")
	refused(t, "a wrong code", other.enroll(l.code("T-1")), provision.CodeCredentialsRefused)
	l.failing(errors.New("sealed"))
	refused(t, "without an issuer", other.enroll(l.code("T-2")), provision.CodeIssuerUnavailable)
	for _, want := range []string{"enrol ok", "renew ok", "agreement ok", "enrol CredentialsRefused", "enrol " + string(provision.CodeIssuerUnavailable)} {
		if counted[want] != 1 {
			t.Errorf("%s: counted %d times, want 1: %v", want, counted[want], counted)
		}
	}
}
