package terminal_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// diagnose looks at a terminal and demands that this changes nothing.
func diagnose(t *testing.T, medium *terminaltest.FS, clock func() time.Time) []terminal.Check {
	t.Helper()
	before := medium.Content()
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	checks := terminal.Diagnose(t.Context(), terminal.Options{FS: medium, Sealer: sealer, Clock: clock, Network: terminal.LinkOptions{Clock: clock}})
	same(t, before, medium)
	return checks
}

// says demands one check of a name with a verdict, and words in its detail or next step.
func says(t *testing.T, checks []terminal.Check, name string, v terminal.Verdict, words string) {
	t.Helper()
	for _, c := range checks {
		if c.Name == name && c.Verdict == v && strings.Contains(c.Detail+"; "+c.Next, words) {
			if (c.Next == "") != (v == terminal.Fine) {
				t.Errorf("%s is %v, next %q", name, v, c.Next)
			}
			return
		}
	}
	t.Errorf("no check says %s %v %q: %+v", name, v, words, checks)
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	acquirer := terminaltest.NewAcquirer(t, lab)
	ra.Endpoints(acquirer.URL)
	medium := enrolled(t, lab, ra)
	checks := diagnose(t, medium, nil)
	for _, c := range checks {
		if c.Verdict != terminal.Fine {
			t.Errorf("a whole terminal: %+v", c)
		}
	}
	if len(checks) < 9 {
		t.Errorf("only %d checks: %+v", len(checks), checks)
	}
	says(t, checks, "clock", terminal.Fine, "as the host's")
	says(t, checks, "tls", terminal.Fine, "TLS 1.3")
	says(t, checks, "trust", terminal.Fine, "trust list 1")

	worn := medium.Clone()
	worn.Flip("slot-1", 300)
	says(t, diagnose(t, worn, nil), "state", terminal.Soon, "1 of 4 files")
	damaged := medium.Clone()
	damaged.Truncate("slot-1", 10)
	says(t, diagnose(t, damaged, nil), "state", terminal.Broken, "registered again")
	unlock, err := medium.Lock()
	check(t, err)
	says(t, diagnose(t, medium, nil), "state", terminal.Broken, "end the other process")
	check(t, unlock())

	wrong := func(years int) func() time.Time { return func() time.Time { return time.Now().AddDate(years, 0, 0) } }
	says(t, diagnose(t, medium, wrong(-10)), "certificate", terminal.Soon, "set the clock")
	says(t, diagnose(t, medium, wrong(-10)), "tls", terminal.Fine, "TLS 1.3") // the state knows better
	says(t, diagnose(t, medium, wrong(10)), "tls", terminal.Broken, "check the clock")
	says(t, diagnose(t, medium, wrong(10)), "certificate", terminal.Broken, "ended")
	ten := func() time.Time { return time.Now().Add(10 * time.Minute) }
	says(t, diagnose(t, medium, ten), "clock", terminal.Soon, "10m0s apart")

	var shut atomic.Bool
	shut.Store(true)
	acquirer.Admit = func() error {
		if shut.Load() {
			return errors.New("revoked")
		}
		return nil
	}
	says(t, diagnose(t, medium, nil), "tls", terminal.Broken, "refuses this terminal's certificate")
}

func TestDiagnoseQueueAndKeys(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	medium := used(t, lab)
	checks := diagnose(t, medium, nil)
	says(t, checks, "queue", terminal.Soon, "2 without an answer, the oldest of 20")
	says(t, checks, "keys", terminal.Soon, "not confirmed")
	says(t, checks, "dns", terminal.Broken, "name server")          // host.invalid
	says(t, checks, "certificate", terminal.Soon, "another bundle") // of hours only

	empty := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(empty)
	check(t, err)
	says(t, terminal.Diagnose(t.Context(), terminal.Options{FS: empty, Sealer: sealer}), "state", terminal.Broken, "enrol the terminal")
}

// TestDiagnoseStrangers points a terminal at a port where nobody is, and at a server that is not the acquirer's.
func TestDiagnoseStrangers(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, closed.Close())
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	for _, c := range []struct{ url, name, words string }{
		{"https://" + closed.Addr().String(), "tcp", "blocks port"},
		{stranger.URL, "tls", "somebody is in between"},
	} {
		lab := terminaltest.NewLab(t, dukpt.AES)
		medium := terminaltest.NewFS()
		sealer, err := terminal.CreateInsecureFile(medium)
		check(t, err)
		check(t, terminal.Import(medium, sealer, lab.Bundle(t, terminal.Endpoint{URL: c.url})))
		says(t, diagnose(t, medium, nil), c.name, terminal.Broken, c.words)
	}
}
