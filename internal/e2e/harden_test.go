package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

var coreLimit = regexp.MustCompile(`(?m)^Max core file size +0 +0 +bytes`)

// TestDaemonsLeaveNoCore looks at each daemon from outside: it has no core files, and nobody's user reads its memory. The planted
// fault shows that the look finds what it looks for.
func TestDaemonsLeaveNoCore(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	a := newAuthority(t)
	host := newService("latchkey-decryptd", filepath.Join(a.dir, deploy.DecryptdFile), "listen", "admin")
	for _, d := range []*service{a.keyd, a.ra, host} {
		for _, fault := range []planted.Name{"", planted.CoreAllowed} {
			d.args = nil
			if d != a.keyd {
				d.args = []string{"--keyd", "https://127.0.0.1:1"}
			}
			if d == host {
				d.args = []string{"--registry", "https://127.0.0.1:1"}
			}
			check(t, syscall.Setrlimit(syscall.RLIMIT_CORE, mostCore(t))) // that of the test is inherited
			d.start(t, binaries.planted, string(fault))
			limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.cmd.Process.Pid))
			check(t, err)
			if found := coreLimit.Match(limits); found != (fault == "") {
				t.Errorf("%s with fault %q: no core files: %v\n%s", d.program, fault, found, limits)
			}
			d.stop(t)
		}
	}
}

// mostCore is the highest limit that this process may give its children.
func mostCore(t *testing.T) *syscall.Rlimit {
	t.Helper()
	var l syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_CORE, &l))
	if l.Max == 0 {
		t.Skip("core files are forbidden to this test, so that nothing can be told")
	}
	l.Cur = l.Max
	return &l
}

// TestMemoryIsNotOfItsUser runs the service as a user without rights. The files in /proc of a process that may be traced belong to that
// user, and of one that is not dumpable to root.
func TestMemoryIsNotOfItsUser(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("gives a process to another user")
	}
	const nobody = 65534
	a := newAuthority(t)
	top := filepath.Dir(a.dir)
	check(t, os.Chmod(top, 0o755))
	check(t, os.Chmod(filepath.Dir(top), 0o755))
	bin := filepath.Join(top, "bin")
	check(t, os.Mkdir(bin, 0o755))
	program, err := os.ReadFile(filepath.Join(binaries.planted, "latchkey-decryptd"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(bin, "latchkey-decryptd"), program, 0o755))
	check(t, filepath.WalkDir(a.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}))
	for _, fault := range []planted.Name{"", planted.CoreAllowed} {
		host := newService("latchkey-decryptd", filepath.Join(a.dir, deploy.DecryptdFile), "listen", "admin")
		host.args = []string{"--registry", "https://127.0.0.1:1"}
		host.user = nobody
		host.start(t, bin, string(fault))
		info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", host.cmd.Process.Pid))
		check(t, err)
		owner := info.Sys().(*syscall.Stat_t).Uid
		if protected := owner == 0; protected != (fault == "") {
			t.Errorf("with fault %q the memory belongs to user %d", fault, owner)
		}
		host.stop(t)
	}
}

// TestSupervisorIsTold runs the service under the protocol of systemd.
func TestSupervisorIsTold(t *testing.T) {
	t.Parallel()
	a, d := emptyAuthority(t, keyset.Test)
	check(t, d.Close())
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	check(t, err)
	defer c.Close()
	host := newService("latchkey-decryptd", filepath.Join(a.dir, deploy.DecryptdFile), "listen", "admin")
	host.args = []string{"--registry", "https://127.0.0.1:1"}
	host.env = []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=400000"}
	host.start(t, binaries.shipped)
	var told []string
	hear := func(until string) {
		t.Helper()
		b := make([]byte, 256)
		for len(told) == 0 || told[len(told)-1] != until {
			check(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
			n, err := c.Read(b)
			if err != nil {
				t.Fatalf("after %q: %v\n%s", told, err, host.log)
			}
			told = append(told, string(bytes.TrimSpace(b[:n])))
		}
	}
	hear("WATCHDOG=1")
	host.stop(t)
	hear("STOPPING=1")
	if told[0] != "READY=1" || strings.Count(strings.Join(told, " "), "READY=1") != 1 {
		t.Errorf("told %q", told)
	}
}
