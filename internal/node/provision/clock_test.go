package provision

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// TestClocksTenYearsOff enrols and renews terminals whose clocks are ten years off. One that is behind goes by the trust list and by
// its certificate, and works; one that is ahead is told so, and has spent neither its code nor its certificate.
func TestClocksTenYearsOff(t *testing.T) {
	t.Parallel()
	r := start(t)
	off := func(years int) func() time.Time { return func() time.Time { return time.Now().AddDate(years, 0, 0) } }
	year := off(10)().UTC().Format("2006-") // where no year ends meanwhile
	told := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, enroll.ErrClock) || !strings.Contains(err.Error(), year) || !strings.Contains(err.Error(), "set the clock") {
			t.Errorf("%s ten years ahead: %v, want ErrClock with the time and the next step", what, err)
		}
	}
	renew := func(dir string, clock func() time.Time) error {
		medium := terminal.OSFS(dir)
		term := must[*terminal.Terminal](t)(terminal.Open(terminal.Options{
			FS: medium, Sealer: must[terminal.Sealer](t)(terminal.OpenInsecureFile(medium)), Clock: clock,
		}))
		return errors.Join(term.Renew(t.Context()), term.Close())
	}
	behind, ahead := t.TempDir(), t.TempDir()
	ticket := r.ticket("T-1", true)
	if err := r.enrolBy(behind, "T-1", ticket, off(-10)); err != nil {
		t.Errorf("enrolment ten years behind: %v", err)
	}
	first := r.current("T-1")
	if err := renew(behind, off(-10)); err != nil || r.current("T-1") == first {
		t.Errorf("renewal ten years behind: %v, certificate %s after %s", err, r.current("T-1"), first)
	}
	ticket = r.ticket("T-2", true)
	told("enrolment", r.enrolBy(ahead, "T-2", ticket, off(10)))
	if err := r.enrol(ahead, "T-2", ticket); err != nil {
		t.Errorf("with the clock set: %v", err)
	}
	first = r.current("T-2")
	told("renewal", renew(ahead, off(10)))
	if got := r.current("T-2"); got != first {
		t.Errorf("a renewal that was refused made certificate %s of %s", got, first)
	}
	if err := renew(ahead, time.Now); err != nil || r.current("T-2") == first {
		t.Errorf("renewal with the clock set: %v", err)
	}
}
