package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// service is a daemon that is started, killed and started again at the same addresses.
type service struct {
	program string            // name of the binary
	config  string            // its configuration file
	doors   map[string]string // flag of each listener and the address it got
	args    []string          // further arguments
	env     []string          // further variables
	user    uint32            // who it runs as; 0: who the test runs as
	cmd     *exec.Cmd
	exited  chan error
	log     *lines
}

func newService(program, config string, doors ...string) *service {
	s := &service{program: program, config: config, doors: make(map[string]string), log: newLines()}
	for _, d := range doors {
		s.doors[d] = "127.0.0.1:0"
	}
	return s
}

// start runs the service with planted faults and waits until it is ready.
func (s *service) start(t *testing.T, binary string, planted ...string) {
	t.Helper()
	check(t, s.attempt(binary, planted...))
}

// attempt is start for a service that may have reason to end again.
func (s *service) attempt(binary string, planted ...string) error {
	args := append([]string{"--config", s.config}, s.args...)
	for flag, addr := range s.doors {
		args = append(args, "--"+flag, addr)
	}
	out := newLines()
	s.exited = make(chan error, 1)
	s.cmd = exec.Command(filepath.Join(binary, s.program), args...)
	s.cmd.Env = append(append(os.Environ(), "LATCHKEY_PLANTED="+strings.Join(planted, ",")), s.env...)
	if s.user != 0 {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user, NoSetGroups: true}}
	}
	s.cmd.Stdout, s.cmd.Stderr = out, s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	exited, cmd := s.exited, s.cmd
	go func() { exited <- cmd.Wait() }()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case err := <-s.exited:
			return fmt.Errorf("%s ended before it was ready: %v\n%s%s", s.program, err, out, s.log)
		case <-deadline:
			s.kill()
			return fmt.Errorf("%s is not ready after a minute\n%s%s", s.program, out, s.log)
		case <-out.more:
			if s.ready(out.String()) {
				return nil
			}
		}
	}
}

// ready reads the addresses from the line that the service writes when it is ready.
func (s *service) ready(text string) bool {
	for line := range strings.Lines(text) {
		var said map[string]any
		if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &said) != nil || said["msg"] != "ready" {
			continue
		}
		for flag, before := range s.doors {
			addr, ok := said[flag].(string)
			if flag == "listen" {
				addr, ok = said["service"].(string)
			}
			if !ok {
				return false
			}
			if addr != before { // a load reads them while it is started again
				s.doors[flag] = addr
			}
		}
		return true
	}
	return false
}

// kill is kill -9, and waits until the process is gone.
func (s *service) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL) // it may have ended already
	<-s.exited
}

// stop ends the service in order.
func (s *service) stop(t *testing.T) {
	t.Helper()
	check(t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-s.exited:
		if err != nil {
			t.Errorf("%s did not end in order: %v\n%s", s.program, err, s.log)
		}
	case <-time.After(30 * time.Second):
		s.kill()
		t.Errorf("%s does not end\n%s", s.program, s.log)
	}
}

// end ends a service that a failed test has left running.
func (s *service) end() { _ = s.cmd.Process.Kill() }

// lines keeps what a process wrote.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// verifyAudit runs latchkey audit verify on what a service left behind, and returns what it says.
func verifyAudit(t *testing.T, dir, database, pub string) (said string) {
	t.Helper()
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "audit", "verify",
		"--database", filepath.Join(dir, database), "--key-file", filepath.Join(dir, "audit", pub))
	if code != 0 {
		t.Errorf("audit verify of %s ends with %d: %s%s", database, code, out, errs)
	}
	return out
}
