package hsmtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is p11-kit server in front of one token of SoftHSM. Its token is what p11-kit-client.so reaches through a socket; each
// connection is a process of its own. It is for one goroutine.
type Server struct {
	Token // behind the server

	tb     testing.TB
	socket string
	direct Token // the same without the server
	cmd    *exec.Cmd
	done   chan struct{} // closed when cmd has ended
}

// address is where p11-kit-client.so looks for a server; it reads it whenever it is initialised.
const address = "P11_KIT_SERVER_ADDRESS"

var (
	clients = []string{"/usr/lib/*/pkcs11/p11-kit-client.so", "/usr/lib/pkcs11/p11-kit-client.so", "/usr/lib64/pkcs11/p11-kit-client.so"}
	serving sync.Mutex // the address is of the process: one server at a time
)

// Serve starts a server before a fresh token, until the test ends. There is one at a time in a process. Without p11-kit the
// test is skipped, or fails where LATCHKEY_REQUIRE names p11-kit, or demands all.
func Serve(tb testing.TB) *Server {
	tb.Helper()
	client, err := clientAt(clients...)
	if err != nil {
		absent(tb, "p11-kit", err)
	}
	direct := New(tb)
	serving.Lock()
	tb.Cleanup(serving.Unlock)
	dir, err := os.MkdirTemp("", "latchkey-p11-") // the path of a socket must be short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover in the folder of temporary files harms nobody
	s := &Server{Token: Token{Module: client, Label: direct.Label}, tb: tb, socket: filepath.Join(dir, "socket"), direct: direct}
	if err := os.Setenv(address, "unix:path="+s.socket); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.Unsetenv(address) }) // it was set
	tb.Cleanup(s.Kill)
	s.Start()
	return s
}

func clientAt(places ...string) (string, error) {
	if _, err := exec.LookPath("p11-kit"); err != nil {
		return "", err
	}
	for _, place := range places {
		if found, _ := filepath.Glob(place); len(found) > 0 { // only a bad pattern is an error
			return found[0], nil
		}
	}
	return "", fmt.Errorf("p11-kit-client.so is in none of %v", places)
}

// serve runs the server until the pipe from this process is closed, however this process ends.
const serve = `p11-kit server --foreground --provider "$1" --name "$2" "$3" </dev/null &
read -r _
kill -KILL 0`

// Start starts the server, unless it runs, and returns when it listens.
func (s *Server) Start() {
	s.tb.Helper()
	if s.cmd != nil {
		return
	}
	_ = os.Remove(s.socket) // that of a server that was killed
	cmd := exec.Command("sh", "-c", serve, "sh", s.direct.Module, s.socket, "pkcs11:token="+s.direct.Label)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Kill means its connections, too
	if _, err := cmd.StdinPipe(); err != nil {
		s.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		_ = cmd.Wait() // it is killed
	}(s.done)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("unix", s.socket); err == nil {
			_ = c.Close() // it listens
			return
		}
		select {
		case <-s.done:
			s.tb.Fatalf("p11-kit server has ended: %v", cmd.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			s.tb.Fatal("p11-kit server does not listen")
		}
	}
}

// Kill ends the server and all its connections, if it runs, as a machine that fails would.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-s.done
	s.cmd = nil
	for { // the shell has ended, the server and its connections will have in a moment
		c, err := net.Dial("unix", s.socket)
		if err != nil {
			return
		}
		_ = c.Close() // of a server that is ending
	}
}

// Cut ends the connections, and leaves the server. It returns how many there were.
func (s *Server) Cut() (cut int) {
	s.tb.Helper()
	for _, connection := range s.Connections() {
		if syscall.Kill(connection, syscall.SIGKILL) == nil {
			cut++
		}
	}
	return cut
}

// Connections returns the processes of the connections.
func (s *Server) Connections() (all []int) {
	s.tb.Helper()
	for _, server := range s.children(s.cmd.Process.Pid) {
		all = append(all, s.children(server)...)
	}
	return all
}

// children returns the processes that a process has started and that are there.
func (s *Server) children(pid int) (all []int) {
	s.tb.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, field := range strings.Fields(string(list)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			s.tb.Fatal(err)
		}
		all = append(all, child)
	}
	return all
}
