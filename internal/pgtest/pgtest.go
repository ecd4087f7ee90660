// Package pgtest gives tests a private PostgreSQL 15: a cluster of its own in a folder of its own, on a free port of the
// loopback interface and on a Unix socket, killed at the end.
//
// [Shared] is one cluster for each test binary, in which each test has a database of its own. A cluster that a test may kill,
// promote or reconfigure is its own: [Own], and [Cluster.Standby] for a copy that follows it.
//
// The server runs as the user that runs the tests, or, because it refuses to be root, as the user postgres or nobody.
package pgtest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Superuser is the user of every cluster that may do everything.
const Superuser = "latchkey"

// patience is how long a server may take to start, to end or to catch up.
const patience = 60 * time.Second

// Cluster is a PostgreSQL server with its data.
type Cluster struct {
	Socket       string // folder of its Unix socket, where everybody is let in
	Port         int    // at 127.0.0.1, where the password is asked for, and the name of the socket
	Password     string // of Superuser
	PasswordFile string // with it, mode 0600

	folder string
	data   string
	mu     sync.Mutex
	server *exec.Cmd
	ended  chan struct{}
}

// shared is the cluster of this binary; made is its folder, which is read when all tests are over.
var (
	shared = sync.OnceValues(func() (_ *Cluster, err error) {
		made, err = start(nil)
		return made, err
	})
	made *Cluster
)

// Binary is the body of TestMain in packages that use Shared: it runs the tests and ends the cluster.
func Binary(m *testing.M) int {
	code := m.Run()
	if made != nil {
		made.Remove()
	}
	return code
}

// Shared returns the cluster of this test binary, which nobody may change or kill. Without PostgreSQL 15 the test is skipped,
// or fails where LATCHKEY_REQUIRE names postgres, in a list with commas, or demands all.
func Shared(tb testing.TB) *Cluster {
	tb.Helper()
	present(tb)
	c, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Own starts a cluster for this test alone. The settings are lines of postgresql.conf, such as "fsync = off".
func Own(tb testing.TB, settings ...string) *Cluster {
	tb.Helper()
	present(tb)
	c, err := start(tb, settings...)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// bin is where Debian has the programs of the server.
const bin = "/usr/lib/postgresql/15/bin"

var programs sync.Map // by name: func() (string, error)

// program returns the path of a program of PostgreSQL 15. It is looked for once.
func program(name string) (string, error) {
	f, _ := programs.LoadOrStore(name, sync.OnceValues(func() (string, error) { return look(name) }))
	return f.(func() (string, error))()
}

func look(name string) (string, error) {
	if path := filepath.Join(bin, name); exec.Command(path, "--version").Run() == nil {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil || !strings.Contains(string(out), " 15.") {
		return "", fmt.Errorf("%s says %q, want PostgreSQL 15", path, bytes.TrimSpace(out))
	}
	return path, nil
}

func present(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"initdb", "postgres", "pg_basebackup", "psql"} {
		_, err := program(name)
		if err == nil {
			continue
		}
		demands := strings.Split(os.Getenv("LATCHKEY_REQUIRE"), ",")
		if slices.Contains(demands, "postgres") || slices.Contains(demands, "all") {
			tb.Fatalf("%v, and LATCHKEY_REQUIRE demands postgres: .ci/env installs it", err)
		}
		tb.Skipf("%v; this test needs PostgreSQL 15", err)
	}
}

// start makes a cluster and starts its server. With an error, what there is of it is returned, to be removed.
func start(tb testing.TB, settings ...string) (*Cluster, error) {
	c, err := fresh(tb)
	if err != nil {
		return c, err
	}
	initdb := []string{
		"--pgdata", c.data, "--username", Superuser, "--pwfile", c.PasswordFile, "--no-sync", "--no-locale", "--encoding", "UTF8",
		"--auth-local", "trust", "--auth-host", "scram-sha-256",
	}
	if err := c.run("initdb", initdb...); err != nil {
		return c, err
	}
	if err := c.Configure(append([]string{"max_connections = 200", "shared_buffers = 32MB", "wal_keep_size = 256MB", "log_line_prefix = '%m [%p] %q%a '"}, settings...)...); err != nil {
		return c, err
	}
	return c, c.launch()
}

// fresh makes the folder of a cluster, for the user that its server runs as, and takes a port.
func fresh(tb testing.TB) (*Cluster, error) {
	folder, err := os.MkdirTemp("", "latchkey-pg-") // short, because the path of a socket may have some 100 bytes only
	if err != nil {
		return nil, err
	}
	c := &Cluster{Socket: folder, folder: folder, data: filepath.Join(folder, "data"), Password: rand.Text()}
	if tb != nil {
		tb.Cleanup(c.Remove)
	}
	c.PasswordFile = filepath.Join(folder, "password")
	if err := os.WriteFile(c.PasswordFile, []byte(c.Password+"\n"), 0o600); err != nil {
		return nil, err
	}
	if c.Port, err = freePort(); err != nil {
		return nil, err
	}
	who, err := account()
	if err != nil || who == nil {
		return c, err
	}
	return c, errors.Join(os.Chown(folder, int(who.Uid), int(who.Gid)), os.Chown(c.PasswordFile, int(who.Uid), int(who.Gid)))
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// account is whom the server runs as: nil for the user of the tests.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL will not run as root, and there is neither a user postgres nor a user nobody")
}

// command prepares a program of PostgreSQL as the user of the server, with an environment that has nothing of the caller's.
func (c *Cluster) command(name string, args ...string) (*exec.Cmd, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	who, err := account()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = c.folder
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + c.folder}
	if who != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	}
	return cmd, nil
}

func (c *Cluster) run(name string, args ...string) error {
	cmd, err := c.command(name, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Configure appends lines to the configuration of the server, which reads them when it starts or at Reload.
func (c *Cluster) Configure(lines ...string) error {
	f, err := os.OpenFile(filepath.Join(c.data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// File makes a file for the server alone, such as a key, and returns its path.
func (c *Cluster) File(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(c.folder, name)
	err := os.WriteFile(path, content, 0o600)
	who, failed := account()
	if who != nil && err == nil {
		err = os.Chown(path, int(who.Uid), int(who.Gid))
	}
	if err := errors.Join(err, failed); err != nil {
		tb.Fatal(err)
	}
	return path
}

// launch starts the server and waits until it takes connections.
func (c *Cluster) launch() error {
	deadline := time.Now().Add(patience)
	for {
		err := c.try(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond) // processes of the one that was killed may still be at their end
	}
}

func (c *Cluster) try(deadline time.Time) error {
	cmd, err := c.command("postgres", "-D", c.data, "-p", strconv.Itoa(c.Port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories="+c.Socket)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ended is in its log
	c.mu.Lock()
	c.server, c.ended = cmd, ended
	c.mu.Unlock()
	for {
		if _, err = c.SQL("postgres", "SELECT 1"); err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("PostgreSQL ended at its start:\n%s", c.Log())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL takes no connections: %w\n%s", err, c.Log())
		}
	}
}

func (c *Cluster) logFile() string { return filepath.Join(c.folder, "log") }

// Log returns the end of what the server has logged.
func (c *Cluster) Log() string {
	b, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b[max(len(b)-8000, 0):])
}

// Start starts the server again after Kill or Stop, and waits until it has recovered.
func (c *Cluster) Start() error { return c.launch() }

// Kill ends every process of the server at once, as the end of its machine does, but for what the kernel has not written yet.
func (c *Cluster) Kill() {
	c.mu.Lock()
	cmd, ended := c.server, c.ended
	c.server = nil
	c.mu.Unlock()
	if cmd == nil {
		return
	}
	workers := children(cmd.Process.Pid)
	_ = cmd.Process.Kill() // first, so that it starts nothing in their place
	for _, pid := range append(workers, children(cmd.Process.Pid)...) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended with its server
	}
	<-ended
}

// children returns the processes that a process has started and that are still there.
func children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil // it has ended, and its children will
	}
	var out []int
	for _, field := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(field); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// Stop ends the server in good order, and breaks off what is under way.
func (c *Cluster) Stop() {
	c.mu.Lock()
	cmd, ended := c.server, c.ended
	c.server = nil
	c.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill() // what it leaves behind is removed with its folder
		<-ended
	}
}

// Remove ends the server and removes its data, before the test ends.
func (c *Cluster) Remove() {
	c.Kill()
	deadline := time.Now().Add(5 * time.Second)
	for os.RemoveAll(c.folder) != nil && time.Now().Before(deadline) { // a worker at its end may still write
		time.Sleep(20 * time.Millisecond)
	}
}

// SQL carries out statements in a database, over the socket, and returns what psql prints: rows in lines, columns with |.
func (c *Cluster) SQL(database, statements string) (string, error) {
	cmd, err := c.command("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
		"--host", c.Socket, "--port", strconv.Itoa(c.Port), "--username", Superuser, "--dbname", database)
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(statements)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, failed.Bytes())
	}
	return strings.TrimSpace(out.String()), nil
}

// Must carries out statements in the database postgres and ends the test where it cannot.
func (c *Cluster) Must(tb testing.TB, statements string) string {
	tb.Helper()
	out, err := c.SQL("postgres", statements)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Database makes an empty database for a test and returns its name.
func (c *Cluster) Database(tb testing.TB) string {
	tb.Helper()
	name := "t" + strings.ToLower(rand.Text())
	c.Must(tb, "CREATE DATABASE "+name)
	return name
}

// Reload has the server read its configuration.
func (c *Cluster) Reload(tb testing.TB) {
	tb.Helper()
	c.Must(tb, "SELECT pg_reload_conf()")
}
