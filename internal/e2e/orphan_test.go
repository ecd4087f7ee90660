package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// findable is how long a registration authority may take after its start to have revoked what the one before it had signed
// and nobody was given. One that forgets never has.
const (
	findable  = time.Minute
	forgotten = 5 * time.Second
)

// orphans are the certificates of an issuer that no registry has, and how many of them are not revoked.
type orphans struct{ lost, live int }

// judgeOrphans starts the registration authority once more, and waits until everything is revoked that was signed and that
// nobody was given, because a kill came between the two. Of two it starts both: each looks at once for what it has left behind
// itself, and for what the other has left only when no attempt can be under way any more. count counts what there is beside what is kept.
func (o *onboarding) judgeOrphans(t *testing.T, binary string, within time.Duration, count func(kept map[string]bool) orphans, planted ...string) orphans {
	t.Helper()
	for _, ra := range []*service{o.a.ra, o.a.second} {
		if ra != nil {
			ra.stop(t)
			ra.start(t, binary, planted...)
		}
	}
	certs, err := o.a.admin().Certificates(t.Context())
	check(t, err)
	kept := make(map[string]bool)
	for _, c := range certs {
		kept[c.Serial] = true
	}
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		found := count(kept)
		if found.live == 0 || time.Now().After(deadline) {
			return found
		}
	}
}

// inLedger counts the orphans of the issuer in the deployment folder.
func (a *authority) inLedger(t *testing.T) func(kept map[string]bool) orphans {
	return func(kept map[string]bool) (out orphans) {
		t.Helper()
		f, err := os.Open(filepath.Join(a.dir, "ca", identity.TerminalCA.String(), embedded.LedgerFile))
		check(t, err)
		defer func() { _ = f.Close() }() // only read
		lost := make(map[string]bool)
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var entry struct{ Event, Serial string }
			if json.Unmarshal(lines.Bytes(), &entry) != nil {
				continue // a line that is being written
			}
			switch {
			case entry.Event == "issued" && !kept[entry.Serial]:
				lost[entry.Serial] = true
				out.lost++
			case entry.Event == "revoked":
				delete(lost, entry.Serial)
			}
		}
		out.live = len(lost)
		return out
	}
}

// waitForSignature returns as soon as the issuer in the deployment folder has signed once more.
func (a *authority) waitForSignature(t *testing.T) {
	t.Helper()
	f, err := os.Open(filepath.Join(a.dir, "ca", identity.TerminalCA.String(), embedded.LedgerFile))
	check(t, err)
	defer func() { _ = f.Close() }() // only read
	_, err = f.Seek(0, io.SeekEnd)
	check(t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Microsecond) {
		more, err := io.ReadAll(f)
		check(t, err)
		if bytes.Contains(more, []byte(`"issued"`)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is signed\n%s", a.ra.log)
		}
	}
}

// orphaned runs a registration authority that takes its time between the answer of the issuer and the commit, kills it again and
// again right after the issuer has signed, and counts what nobody was given.
func orphaned(t *testing.T, rounds int, within time.Duration, faults ...string) orphans {
	t.Helper()
	f := chosen()
	faults = append(faults, string(planted.SettleLate))
	a := newAuthority(t)
	a.keyd.start(t, binaries.shipped)
	a.ra.args = []string{"--keyd", "https://" + a.keyd.doors["listen"]}
	a.ra.start(t, binaries.planted, faults...)
	o := newOnboarding(t, a, stuckAfter)
	stop := sync.OnceFunc(o.run(t, f))
	defer func() {
		stop()
		a.ra.kill()
		a.keyd.kill()
	}()
	for range rounds {
		o.strike(t, f, time.Duration(rand.Int64N(int64(f.killAfter))), func() {
			a.waitForSignature(t)
			a.ra.kill()
			a.ra.start(t, binaries.planted, faults...)
		})
	}
	stop()
	for _, fault := range o.faults {
		t.Error(fault)
	}
	return o.judgeOrphans(t, binaries.planted, within, a.inLedger(t), faults...)
}

// TestOrphans has kills come between the answer of the issuer and the commit: what nobody was given is revoked.
func TestOrphans(t *testing.T) {
	found := orphaned(t, chosen().orphanKills, findable)
	t.Logf("certificates that were signed and nobody was given: %d, of those not revoked: %d", found.lost, found.live)
	if found.lost == 0 || found.live > 0 {
		t.Errorf("%d certificates that nobody was given, want some; %d of them are not revoked", found.lost, found.live)
	}
}

// TestOrphansPlanted shows that an authority is caught that leaves no trace of what it is about to have signed.
func TestOrphansPlanted(t *testing.T) {
	fault := string(planted.OrphansForgotten)
	found := orphaned(t, chosen().orphanKills, forgotten, fault)
	if found.live == 0 {
		t.Errorf("planted %s not caught: %d certificates that nobody has, all of them revoked", fault, found.lost)
	}
	t.Logf("planted %s caught: of %d certificates that nobody was given %d are not revoked", fault, found.lost, found.live)
}
