package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// till is a folder in which the real program makes sales, each in a process of its own, and what the merchant is told.
type till struct {
	dir, folder string
	program     string
	environment []string
	lab         *terminaltest.Lab
	running     atomic.Pointer[os.Process] // what is killed when its message has come to the host
	told        map[int64]bool             // sums that were approved, or kept to be delivered
}

func newTill(t *testing.T) *till {
	t.Helper()
	lab := terminaltest.NewLab(t, dukpt.AES)
	lab.Host.Limits = &message.Limits{
		Count: 1000, Bytes: 1 << 20, AgeSeconds: 86400, Amount: message.Amount{Minor: 1e9, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
	}
	host := terminaltest.NewAcquirer(t, lab)
	dir := t.TempDir()
	s := &till{dir: dir, folder: filepath.Join(dir, "t1"), lab: lab, told: make(map[int64]bool)}
	host.Refuse = func() *terminal.HostError {
		if p := s.running.Swap(nil); p != nil {
			_ = p.Kill() // it may have ended
		}
		return nil
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.program, err = os.Executable()
	check(err)
	check(os.Mkdir(s.folder, 0o700))
	medium := terminal.OSFS(s.folder)
	sealer, err := terminal.CreateInsecureFile(medium)
	check(err)
	check(terminal.Import(medium, sealer, lab.Bundle(t, terminal.Endpoint{URL: host.URL})))
	check(os.WriteFile(filepath.Join(dir, "card"), []byte(";4761739001010119=29122010123456789?"), 0o600))
	check(os.WriteFile(filepath.Join(dir, "pin"), []byte("1234"), 0o600))
	return s
}

// run starts the program; kill is called with its process. It returns what it wrote, and whether it came to its end.
func (s *till) run(kill func(*os.Process), args ...string) (out string, ended bool, err error) {
	cmd := exec.Command(s.program, append(args, "--dir", s.folder)...)
	cmd.Args[0] = "latchkey-terminal" // by this name the test binary is the program
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.environment...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return "", false, err
	}
	kill(cmd.Process)
	err = cmd.Wait()
	s.running.Store(nil)
	return stdout.String() + stderr.String(), cmd.ProcessState.Exited(), err
}

// spare lets a process live.
func spare(*os.Process) {}

// sell makes sale number n, of n cents, and kills two of three, or lets it end. What ends by itself must end well.
func (s *till) sell(r *rand.Rand, n int) (killed bool, err error) {
	args := []string{"sale", "--amount", fmt.Sprintf("%d.%02d", n/100, n%100), "--track2-file", "card"}
	kind := r.IntN(3)
	args = append(args, [][]string{{"--offline"}, {"--no-pin"}, {"--pin-file", "pin"}}[kind]...)
	kill := spare
	switch way := r.IntN(3); {
	case way == 0 && kind > 0: // when the host has the message
		kill = func(p *os.Process) { s.running.Store(p) }
	case way < 2: // at some time
		after := time.Duration(r.IntN(40)) * time.Millisecond
		kill = func(p *os.Process) { time.AfterFunc(after, func() { _ = p.Kill() }) }
	}
	out, ended, err := s.run(kill, args...)
	if ended && err != nil {
		return false, fmt.Errorf("sale %d: %w\n%s", n, err, out)
	}
	if strings.Contains(out, "APPROVED") || strings.Contains(out, "kept: ") {
		s.told[int64(n)] = true
	}
	return !ended, nil
}

// judge returns what is wrong between the host's ledger and what the merchant was told.
func (s *till) judge() (wrong []string) {
	booked, reversed := make(map[int64]int), make(map[int64]bool)
	for _, e := range s.lab.Host.Entries() {
		if e.Original != nil {
			reversed[e.Amount.Minor] = true
		} else {
			booked[e.Amount.Minor]++
		}
	}
	for sum, n := range booked {
		if n > 1 {
			wrong = append(wrong, fmt.Sprintf("the sale of %d is booked %d times", sum, n))
		}
	}
	for sum := range s.told {
		if booked[sum] == 0 || reversed[sum] {
			wrong = append(wrong, fmt.Sprintf("the sale of %d, which the merchant was told of, is not booked, or reversed", sum))
		}
	}
	if n := s.lab.Host.Reused(); n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d keys were used twice", n))
	}
	return wrong
}

// kill makes sales until so many have been killed, settles what is left, and returns what is wrong.
func (s *till) kill(t *testing.T, most int) (sales int, wrong []string) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 13))
	if out, _, err := s.run(spare, "signin"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for kills := 0; kills < most; {
		sales++
		killed, err := s.sell(r, sales)
		if err != nil {
			return sales, append(wrong, err.Error())
		}
		if killed {
			kills++
		}
		if sales%20 == 0 || kills == most {
			if out, _, err := s.run(spare, "resend"); err != nil {
				return sales, append(wrong, fmt.Sprintf("resend: %v\n%s", err, out))
			}
		}
		if sales > 10*most {
			return sales, append(wrong, fmt.Sprintf("only %d of %d sales were killed", kills, sales))
		}
	}
	out, _, err := s.run(spare, "status")
	if err != nil || !strings.Contains(out, "unanswered    0") {
		wrong = append(wrong, fmt.Sprintf("it is not settled: %v\n%s", err, out))
	}
	return sales, append(wrong, s.judge()...)
}

// TestKill kills the real program in the middle of sales, with SIGKILL: no sale that the merchant was told of is lost, none is booked
// twice, no key is used twice, and the folder works on.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := 100
	switch {
	case os.Getenv("LATCHKEY_SOAK") != "":
		kills = 1000
	case testing.Short():
		kills = 10
	}
	s := newTill(t)
	sales, wrong := s.kill(t, kills)
	t.Logf("%d sales, %d killed, %d told of, %d keys seen by the host", sales, kills, len(s.told), s.lab.Host.Keys())
	for _, w := range wrong {
		t.Error(w)
	}
	if len(s.told) < kills/5 {
		t.Errorf("the merchant was told of %d only", len(s.told))
	}
}
