//go:build linux

package terminal_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/terminal"
)

// elsewhere is a network of its own: a thread that lives in another name space of the kernel.
type elsewhere struct {
	id   int // of the thread
	work chan func()
}

// newElsewhere makes one that ends with the test, and with it the devices in it.
func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	e := &elsewhere{work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is of no use to anybody else, and ends with this function
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		e.id = syscall.Gettid()
		made <- err
		for f := range e.work {
			f()
		}
	}()
	t.Cleanup(func() { close(e.work) })
	check(t, <-made)
	return e
}

// do does something there.
func (e *elsewhere) do(f func()) {
	done := make(chan struct{})
	e.work <- func() { defer close(done); f() }
	<-done
}

// ip runs the program of that name, here.
func ip(t *testing.T, args ...string) {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// cable is a pair of devices: the terminal is here, its host at the other end.
type cable struct {
	here, there           string // devices
	hereIP, thereIP, port string
	far                   *elsewhere
}

var (
	cables sync.Mutex // of the number
	wired  = rand.IntN(1 << 14)
)

// newCable lays one to a host, whose door is at its far end then.
func newCable(t *testing.T, host string) *cable {
	t.Helper()
	cables.Lock()
	wired = (wired + 1) % (1 << 14)
	n := wired
	cables.Unlock()
	// Of 198.18.0.0/15, which is for tests of networks (RFC 2544).
	at := func(i int) string { return fmt.Sprintf("198.%d.%d.%d", 18+n>>13, n>>5&255, n&31<<2+i) }
	c := &cable{here: fmt.Sprintf("lk%da", n), there: fmt.Sprintf("lk%db", n), hereIP: at(1), thereIP: at(2), far: newElsewhere(t)}
	ip(t, "link", "add", c.here, "type", "veth", "peer", "name", c.there)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", c.here).Run() }) // it may have gone with its other end
	ip(t, "link", "set", c.there, "netns", strconv.Itoa(c.far.id))
	ip(t, "addr", "add", c.hereIP+"/30", "dev", c.here)
	ip(t, "link", "set", c.here, "up")
	var door net.Listener
	var err error
	c.far.do(func() {
		ip(t, "addr", "add", c.thereIP+"/30", "dev", c.there)
		ip(t, "link", "set", c.there, "up")
		door, err = net.Listen("tcp", c.thereIP+":0") // a socket stays in the network that it was made in
	})
	check(t, err)
	t.Cleanup(func() { _ = door.Close() })
	_, c.port, err = net.SplitHostPort(door.Addr().String())
	check(t, err)
	to, err := url.Parse(host)
	check(t, err)
	go func() {
		for {
			conn, err := door.Accept()
			if err != nil {
				return // the door is closed
			}
			go relay(conn, to.Host)
		}
	}()
	return c
}

// relay carries a connection on to the host.
func relay(conn net.Conn, host string) {
	defer conn.Close()
	behind, err := net.Dial("tcp", host)
	if err != nil {
		return
	}
	defer behind.Close()
	go func() {
		_, _ = io.Copy(behind, conn)
		_ = behind.Close()
	}()
	_, _ = io.Copy(conn, behind)
}

// nobody is an address of a device that no device has: what is sent there is lost, and nobody is told.
const nobody = "02:00:5e:00:53:01"

// cableFaults are what befalls a cable, as the kernel has it.
var cableFaults = []struct {
	name       string
	begin, end func(*testing.T, *cable)
}{
	{
		"unplugged at the host",
		func(t *testing.T, c *cable) { c.far.do(func() { ip(t, "link", "set", c.there, "down") }) },
		func(t *testing.T, c *cable) { c.far.do(func() { ip(t, "link", "set", c.there, "up") }) },
	},
	{
		"unplugged at the terminal",
		func(t *testing.T, c *cable) { ip(t, "link", "set", c.here, "down") },
		func(t *testing.T, c *cable) { ip(t, "link", "set", c.here, "up") },
	},
	{
		"lost on the way there",
		func(t *testing.T, c *cable) {
			ip(t, "neigh", "replace", c.thereIP, "lladdr", nobody, "dev", c.here, "nud", "permanent")
		},
		func(t *testing.T, c *cable) { ip(t, "neigh", "del", c.thereIP, "dev", c.here) },
	},
	{
		"lost on the way back",
		func(t *testing.T, c *cable) {
			c.far.do(func() { ip(t, "neigh", "replace", c.hereIP, "lladdr", nobody, "dev", c.there, "nud", "permanent") })
		},
		func(t *testing.T, c *cable) { c.far.do(func() { ip(t, "neigh", "del", c.hereIP, "dev", c.there) }) },
	},
}

// TestCableFaults is the table of the link once more, over a network of the kernel: a pair of devices, the host's in a name space of its own.
// It needs root, who may make them; others make none.
func TestCableFaults(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: no network was made")
		return
	}
	testvec.Program(t, "ip")
	var mu sync.Mutex
	rows := 0
	t.Run("faults", func(t *testing.T) {
		for n, f := range cableFaults {
			for _, m := range []moment{idle, inFlight, draining} {
				t.Run(fmt.Sprintf("%s, %v", f.name, m), func(t *testing.T) {
					t.Parallel()
					row, wrong := suffer(t, schemes[n%2], func(t *testing.T, host string) network {
						c := newCable(t, host)
						return network{
							Endpoint: terminal.Endpoint{URL: "https://" + net.JoinHostPort(c.thereIP, c.port), ServerName: "127.0.0.1"}, fault: f.name,
							begin: func() { f.begin(t, c) }, end: func() { f.end(t, c) },
						}
					}, m, quick)
					for _, w := range wrong {
						t.Error(w)
					}
					t.Log(row)
					mu.Lock()
					defer mu.Unlock()
					rows++
				})
			}
		}
	})
	if want := 3 * len(cableFaults); rows != want {
		t.Errorf("%d outages, want %d", rows, want)
	}
}
