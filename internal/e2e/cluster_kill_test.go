package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/message"
)

// refusal is the code of what a service refuses, but for failures of its own.
func refusal(err error) (string, bool) {
	r, ok := errors.AsType[*api.Error](err)
	if !ok || r.Status >= 500 {
		return "", false
	}
	return r.Code, true
}

// know notes the messages of a sale that is not in the queue.
func (tr *traffic) know(s *sale) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.ksns[s.digest], tr.ksns[message.DigestOf(s.forged).String()] = s.ksn, s.ksn
}

// count returns how many sales were answered.
func (tr *traffic) count() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.answers
}

// chosenSeed is the seed of LATCHKEY_SEED, or a new one. It decides what is killed when, and how a worker chooses.
func chosenSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("LATCHKEY_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		check(t, err)
	}
	t.Logf("seed %d (LATCHKEY_SEED repeats it)", seed)
	return seed
}

// kill ends something with kill -9 and says what it was.
func (w *wear) kill(t *testing.T) string {
	t.Helper()
	switch n := w.random.IntN(10); {
	case n < 3:
		w.primary.Kill()
		check(t, w.primary.Start())
		return "primary"
	case n == 3:
		w.standby.Kill()
		check(t, w.standby.Start())
		return "standby"
	default:
		for { // that one may be on its way up
			for _, i := range w.random.Perm(replicas) {
				if w.services[i].killNow() {
					return fmt.Sprint("service ", i+1)
				}
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// TestClusterKill ends two decryption services and the PostgreSQL that they share with kill -9, again and again, and has its standby
// take the place of the primary, under the load of two acquirers and of attackers that have a second content for each KSN. It is
// judged by the ledgers: no KSN with two contents, no honest sale lost.
func TestClusterKill(t *testing.T) {
	f, seed := chosen(), chosenSeed(t)
	w := newCluster(t, newSite(t, 2*f.workers)).begin(t, f, seed, 0, binaries.shipped)
	defer w.stop()
	begun := time.Now()
	killed, answers, least, failedOver := make(map[string]int), 0, int64(1<<62), 0
	for i := range f.clusterKills {
		under, now := w.busy(t, f, answers)
		least, answers = min(least, under), now
		if i*(f.failOvers+1)/f.clusterKills > failedOver {
			w.failOver(t, failedOver%2 == 0)
			failedOver++
			_, answers = w.busy(t, f, answers)
		}
		killed[w.kill(t)]++
	}
	w.settle(t, f)
	resolved := strings.Count(w.services[0].log.String()+w.services[1].log.String(), `"outcome of a commit found"`)
	w.stop()
	t.Logf("%d kills under load in %v: %v; %d fail-overs, the first of a dead primary, the second of one that is cut off, and so on", f.clusterKills,
		time.Since(begun).Round(time.Second), killed, failedOver)
	t.Logf("requests under way at each: %d at least; commits looked up: %d", least, resolved)
	w.judge(t, f)
	if failedOver != f.failOvers || killed["primary"] == 0 || killed["service 1"] == 0 || killed["service 2"] == 0 {
		t.Errorf("too little: %v, %d fail-overs", killed, failedOver)
	}
	for i := range replicas {
		w.verify(t, i)
	}
}

// settle waits until every honest sale is answered.
func (w *wear) settle(t *testing.T, f figures) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for w.traffic.left.Load() > 0 || w.rivals.settled.Load() < int64(f.contested) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sales are not answered, %d contested: %v\n%s\n%s", w.traffic.left.Load(), w.rivals.settled.Load(), w.traffic.honest,
				tail(w.services[0].log), tail(w.services[1].log))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// judge holds the ledgers to what was made. Nobody may be at work.
func (w *wear) judge(t *testing.T, f figures) {
	t.Helper()
	tr, rv := w.traffic, w.rivals
	twice, unknown := tr.doubles()
	for _, h := range append(append(twice, unknown...), append(tr.honest, rv.wrong...)...) {
		t.Errorf("two contents, unknown, refused or mistaken: %s", h)
	}
	booked := make(map[string]acquirer.Entry)
	for _, l := range tr.ledgers {
		for _, e := range l.Entries() {
			booked[fmt.Sprintf("%s/%d", e.Terminal, e.Sequence)] = e
		}
	}
	lost := 0
	for _, s := range w.sales {
		if e, ok := booked[s.id]; !ok || e.Digest != s.digest || !s.answered {
			lost++
		}
	}
	attacks, resends := tr.refused[string(decrypt.CodeKSNReplayed)], 0
	for _, n := range tr.resends {
		resends += n
	}
	t.Logf("honest sales: %d, answered: %d, lost: %d; KSNs with two contents in the ledgers: %d", len(w.sales), tr.answers, lost, len(twice))
	t.Logf("claims durable whose answer was never sent, later answered RESEND: %d; settled by a message of type resend: %d", tr.repeats, resends)
	t.Logf("second contents refused after a release: %d, of %v; KSNs contested by two contents at once: %d, refusals: %v", attacks, tr.refused, rv.settled.Load(), rv.codes)
	if lost > 0 {
		t.Errorf("%d honest sales lost", lost)
	}
	if tr.answers < f.settled || rv.settled.Load() < int64(f.contested) || attacks < f.settled/4 || tr.repeats < f.lostAnswers || resends < f.resends {
		t.Errorf("too little: %d answered, %d contested, %d attacks, %d repeated, %d resends", tr.answers, rv.settled.Load(), attacks, tr.repeats, resends)
	}
}

// verify verifies the audit log of a service, with its last checkpoint.
func (w *wear) verify(t *testing.T, i int) {
	t.Helper()
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "audit", "verify", "--config", w.configOf(i),
		"--key-file", filepath.Join(w.dir, "audit", "checkpoint.pub"), "--checkpoint", filepath.Join(w.dir, "audit", fmt.Sprint("checkpoint-", i+1)))
	if code != 0 {
		t.Errorf("audit verify of service %d ends with %d: %s%s", i+1, code, out, errs)
	}
	t.Logf("audit verify of service %d:\n%s", i+1, out)
}

// TestClusterKillPlanted shows that the same test catches services that look at nothing but what they have seen last, and services that
// answer before their claims are durable.
func TestClusterKillPlanted(t *testing.T) {
	f, seed := chosen(), chosenSeed(t)
	c, made := newCluster(t, newSite(t, 2*f.workers)), 0
	for _, bug := range []string{"bug.claim-unchecked", "bug.claim-after-answer"} {
		made = c.caught(t, f, seed, made, bug)
	}
}

func (c *cluster) caught(t *testing.T, f figures, seed uint64, made int, bug string) int {
	t.Helper()
	w := c.begin(t, f, seed, made, binaries.planted, bug)
	defer w.stop()
	answers := 0
	for kills := range f.plantedKills {
		_, answers = w.busy(t, f, answers)
		if twice, _ := w.traffic.doubles(); len(twice) > 0 {
			t.Logf("planted %s caught after %d kills: %d KSNs with two contents in the ledgers", bug, kills, len(twice))
			return w.made
		}
		w.kill(t)
	}
	t.Errorf("planted %s not caught in %d kills", bug, f.plantedKills)
	return w.made
}
